"""`kdlab VERB [overrides]`: one verb a command, imported only when it is asked for."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from kdlab.error import UserError

VERBS = {
    "finetune": "fine-tune one model on one task: a teacher, or a student without a teacher",
    "distill": "train a student with a teacher, which is found or trained first",
    "evaluate": "measure a finished run: report per class, calibration, latency, before against after",
    "report": "one HTML page that compares runs",
    "runs": "the table of runs: to the terminal, csv or parquet",
}

HELP = """kdlab: knowledge distillation and transfer learning experiments.

usage: kdlab VERB [overrides]

{verbs}

kdlab VERB --help       the config groups of a verb and the config it composes
kdlab VERB --cfg job    the whole config, without running it
kdlab VERB -m a=1,2     a sweep: one run a combination
kdlab --shell-completion install=bash    prints what to eval for tab completion (also zsh, fish)

first: kdlab distill experiment=movie_reviews
"""


def conf() -> Path:
    """The folder of the config groups: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def main() -> None:
    """Run the verb that the command line names; exits with 2 after a user's mistake, 1 after any other failure."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] == "--shell-completion":
        return _complete(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:<10}{what}" for verb, what in VERBS.items())))
        return None
    if arguments[0] == "--version":
        print(import_module("kdlab").__version__)
        return None
    if arguments[0] not in VERBS:
        _fail(f"'{arguments[0]}' is not a kdlab command; use one of: {', '.join(VERBS)}")
    try:
        _run(arguments[0], arguments[1:])
    except UserError as mistake:
        _fail(str(mistake))
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from the last checkpoint", code=130)
    except BrokenPipeError:  # such as `kdlab runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as problem:
        if problem.filename is None or os.environ.get("KDLAB_TRACEBACK"):
            raise
        _fail(f"{problem.strerror}: {problem.filename}; check the path and that it can be written (outputs=FOLDER)")
    return None


def _run(verb: str, overrides: list[str]) -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    import kdlab.identity  # noqa: F401  registers the resolver of run ids

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = [f"kdlab {verb}", *overrides]
    try:
        if not {"-h", "--help"}.isdisjoint(overrides):
            page = import_module("kdlab.command.help").page(verb, conf(), overrides)
            if page is not None:
                print(page)
                return
        hydra.main(version_base="1.3", config_path=str(conf()), config_name=verb)(_Task(verb))()
    except (HydraException, OmegaConfBaseException) as mistake:
        if os.environ.get("KDLAB_TRACEBACK"):
            raise
        _fail(_sentence(verb, mistake))
    finally:
        if "kdlab.command.sweep" in sys.modules:
            sys.modules["kdlab.command.sweep"].conclude()


class _Task:
    """What Hydra calls with each composed config; a class so that every launcher can pickle it."""

    __module__ = "kdlab.__main__"

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.__name__ = verb

    def __call__(self, cfg: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig
        from hydra.errors import HydraException
        from hydra.types import RunMode
        from omegaconf.errors import OmegaConfBaseException

        try:
            return import_module(f"kdlab.command.{self.verb}").main(cfg)
        except (UserError, HydraException, OmegaConfBaseException) as mistake:
            if HydraConfig.get().mode == RunMode.MULTIRUN or os.environ.get("KDLAB_TRACEBACK"):
                raise  # the other jobs go on
            _fail(_sentence(self.verb, mistake))


def _complete(arguments: list[str]) -> None:
    """Tab completion: the verb from our list, everything after it from Hydra."""
    line = os.environ.get("COMP_LINE", "kdlab distill ")
    words = line.split()
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        prefix = words[1] if len(words) == 2 else ""
        print("\n".join(verb for verb in VERBS if verb.startswith(prefix)))
        return
    verb = words[1]
    if verb in VERBS:
        os.environ["COMP_LINE"] = "kdlab" + line.split(verb, 1)[1]
        os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
        _run(verb, arguments)


def _sentence(verb: str, mistake: Exception) -> str:
    """One line for a mistake of the user's; Hydra's own messages get a word and a hint more."""
    if isinstance(mistake.__cause__, UserError) and not isinstance(mistake, UserError):
        mistake = mistake.__cause__
    said = " ".join(str(mistake).split())
    if isinstance(mistake, UserError):
        return said
    word = getattr(mistake, "override", "")  # of a mistake in the grammar
    return f"{word and f'{word}: '}{said}; `kdlab {verb} --help` lists the groups, `--cfg job` the keys"


def _fail(sentence: str, code: int = 2) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
