"""`kdlab VERB [overrides]`: one verb a command, imported only when it is asked for."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, NoReturn

from kdlab.config import conf
from kdlab.error import JobError, UserError
from kdlab.text import printable

VERBS = {
    "finetune": "fine-tune one model on one task: a teacher, or a student without a teacher",
    "distill": "train a student with a teacher, which is found or trained first",
    "evaluate": "measure a finished run: report per class, calibration, latency, before and after training",
    "predict": "label the rows of a file with a finished run: label and probabilities beside their columns",
    "report": "one HTML page that compares runs",
    "runs": "the table of runs: to the terminal, csv or parquet",
    "store": "stored outputs of teachers and frozen layers: list, verify, prune",
    "view": "W&B's own viewer in the terminal, live, on chosen runs",
    "dashboard": "the comparison workspace of W&B as code: print it, or push=true to send it",
    "sync": "send runs that were logged offline to a W&B server, checked before and after",
}

DOCTOR = {"doctor": "what a command would do, without running it: kdlab doctor distill -m a=1,2"}

HELP = """kdlab: knowledge distillation and transfer learning experiments.

usage: kdlab VERB [overrides]

{verbs}

kdlab VERB --help       the config groups of a verb and the config it composes
kdlab help GROUP        the options of a group, such as loss/term; kdlab help loss/term=hint explains one
kdlab help KEY          what a single key does and its allowed values, such as optimizer.lr
kdlab help guide        the pages of the guide; kdlab help guide/data shows one
kdlab VERB --cfg job    the whole config, without running it
kdlab VERB -m a=1,2     a sweep: one run a combination
eval "$(kdlab --shell-completion install=bash)"    tab completion (also zsh; fish: kdlab ... install=fish | source)

first: kdlab distill experiment=movie_reviews
"""


def main() -> None:
    """Run the verb that the command line names; exits with 2 after a user's mistake, 1 after any other failure."""
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["help"] and arguments[1:]:
            print(import_module("kdlab.help.explain").explain(arguments[1:], conf()))
        elif not arguments or arguments[0] in ("-h", "--help", "help"):
            print(HELP.format(verbs="\n".join(f"  {verb:<10}{what}" for verb, what in (VERBS | DOCTOR).items())))
        elif arguments[0] == "--version":
            print(import_module("kdlab").__version__)
        elif arguments[0] in ("--shell-completion", "-sc"):
            _complete(arguments[1] if len(arguments) > 1 else "")
        elif arguments[0] in VERBS:
            _run(arguments[0], arguments[1:])
        elif arguments[0] in DOCTOR:
            _doctor(arguments[1:])
        else:
            raise UserError(_no_verb(arguments[0]))
        sys.stdout.flush()
    except UserError as mistake:
        _fail(str(mistake))
    except JobError as lost:
        _fail(str(lost), code=1)
    except KeyboardInterrupt:
        _fail(_interrupted(arguments), code=130)
    except BrokenPipeError:  # such as `kdlab runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as problem:
        if problem.filename is None or os.environ.get("KDLAB_TRACEBACK"):
            raise
        place = problem.filename2 or problem.filename  # a copy or a rename fails where it writes
        _fail(f"{problem.strerror}: {place}; check the path and that it can be written (outputs=FOLDER)")


GOES_ON = {  # what the same command does after an interruption
    "finetune": "goes on from the last checkpoint",
    "distill": "goes on from the last checkpoint",
    "evaluate": "measures anew",
    "predict": "begins anew",
    "report": "reads the runs anew",
    "sync": "sends what is left",
}


def _interrupted(arguments: list[str]) -> str:
    """What Ctrl-C leaves.

    Example:
        >>> _interrupted(["predict", "run=1a2b", "path=new.csv", "file=predicted.csv"])
        'interrupted; the same command goes on after the rows that were written'
    """
    verb = arguments[0] if arguments else ""
    values = dict(word.split("=", 1) for word in arguments if "=" in word)
    after = GOES_ON.get(verb, "")
    if verb == "predict" and values.get("path") != "-" and values.get("file", "-") not in ("-", "null", ""):
        after = "goes on after the rows that were written"
    elif verb in ("finetune", "distill") and {"-m", "--multirun"} & set(arguments):
        after = "goes on: finished jobs are kept, others go on from their last checkpoint"
    if after and values.get("rerun") == "true":
        after = f"without rerun=true {after}"
    return f"interrupted; the same command {after}" if after else "interrupted"


def _no_verb(word: str) -> str:
    from difflib import get_close_matches

    verbs = [*VERBS, *DOCTOR, "help"]
    meant = get_close_matches(word, verbs, n=1)
    hint = f"did you mean {meant[0]}? " if meant else ""
    return f"'{word}' is not a kdlab command; {hint}use one of: {', '.join(verbs)}"


def _run(verb: str, overrides: list[str]) -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    import kdlab.config.identity  # registers the resolver of run ids
    import kdlab.config.tokens  # registers the resolver of a teacher's tokenizer
    import kdlab.launcher  # noqa: F401  lets Hydra find our engines

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    import_module("kdlab.config.importable").importable(overrides)
    sys.argv = [f"kdlab {verb}", *overrides]
    try:
        if not {"-h", "--help"}.isdisjoint(overrides):
            page = import_module("kdlab.help.page").page(verb, conf(), overrides)
            if page is not None:
                print(page)
                return
        elif import_module("kdlab.config.flag").answered(verb, overrides, conf()):
            return
        hydra.main(version_base="1.3", config_path=str(conf()), config_name=verb)(_Task(verb))()
    except (HydraException, OmegaConfBaseException) as mistake:
        if os.environ.get("KDLAB_TRACEBACK"):
            raise
        _fail(_sentence(verb, mistake))
    finally:
        if "kdlab.launcher.sweep" in sys.modules:
            sys.modules["kdlab.launcher.sweep"].conclude()


def _doctor(arguments: list[str]) -> None:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    import kdlab.config.identity
    import kdlab.config.tokens
    import kdlab.launcher  # noqa: F401

    import_module("kdlab.config.importable").importable(arguments)
    try:
        import_module("kdlab.command.doctor").main(arguments, conf())
    except (HydraException, OmegaConfBaseException) as mistake:
        if os.environ.get("KDLAB_TRACEBACK"):
            raise
        _fail(_sentence(arguments[0], mistake))


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

        from kdlab.fetch import downloads_refused

        try:
            with downloads_refused(not _asks_download(cfg)):
                return import_module(f"kdlab.command.{self.verb}").main(cfg)
        except (UserError, HydraException, OmegaConfBaseException) as mistake:
            if HydraConfig.get().mode == RunMode.MULTIRUN or os.environ.get("KDLAB_TRACEBACK"):
                raise  # the other jobs go on
            _fail(_sentence(self.verb, mistake))


def _asks_download(cfg: Any) -> bool:
    """Whether the user's own config has ``download: true`` anywhere; what it reads later has no say."""
    from omegaconf import OmegaConf

    def asked(value: Any) -> bool:
        return isinstance(value, dict) and (
            value.get("download") is True or any(asked(inner) for inner in value.values())
        )

    return asked(OmegaConf.to_container(cfg, resolve=False))


def _complete(request: str) -> None:
    """Print a shell's completion script, or what can stand at the cursor, which the script puts into COMP_LINE."""
    from kdlab.help import complete

    if request.startswith("query="):
        found = complete.answer(os.environ.get("COMP_LINE", "kdlab "), VERBS | DOCTOR, conf())
        print("\n".join(word.rstrip() if request == "query=fish" else word for word in found))  # fish adds the space
    else:
        print(complete.script(request), end="")


def _sentence(verb: str, mistake: Exception) -> str:
    """One line for a mistake of the user's; Hydra's own messages get a word and a hint more."""
    if isinstance(mistake.__cause__, UserError) and not isinstance(mistake, UserError):
        mistake = mistake.__cause__
    said = " ".join(str(mistake).split())
    if isinstance(mistake, UserError):
        return said
    word = getattr(mistake, "override", "")  # of a mistake in the grammar
    said = said.partition(" Config search path:")[0]
    return f"{word and f'{word}: '}{said}; `kdlab {verb} --help` lists the groups, `--cfg job` the keys"


def _fail(sentence: str, code: int = 2) -> NoReturn:
    print(f"error: {printable(sentence)}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
