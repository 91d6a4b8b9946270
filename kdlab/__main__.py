"""`kdlab VERB [overrides]`: one verb a command, imported only when it is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from kdlab.config import conf
from kdlab.config.importable import config_dirs
from kdlab.config.verb import verbs
from kdlab.error import JobError, UserError, fail


def main() -> None:
    """Run the verb that the command line names; exits with 2 after a user's mistake, 1 after any other failure."""
    words = sys.argv[1:]
    try:
        _answer(words)
        sys.stdout.flush()
    except UserError as mistake:
        fail(str(mistake))
    except JobError as lost:
        fail(str(lost), code=1)
    except KeyboardInterrupt:
        fail(_interrupted(words), code=130)
    except BrokenPipeError:  # such as `kdlab runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as problem:
        if problem.filename is None or os.environ.get("KDLAB_TRACEBACK"):
            raise
        place = problem.filename2 or problem.filename  # a copy or a rename fails where it writes
        fail(f"{problem.strerror}: {place}; check the path and that it can be written (outputs=FOLDER)")


def _answer(words: list[str]) -> None:
    first = words[0] if words else "--help"
    if first == "--version":
        print(import_module("kdlab").__version__)
        return
    if first in ("--shell-completion", "-sc"):
        _complete(words[1] if len(words) > 1 else "")
        return
    name = "help" if first in ("-h", "--help") else first
    own = list(config_dirs(words))
    known = verbs(own)
    if name not in known:
        raise UserError(_no_verb(name, list(known), own))
    if known[name].composed:
        import_module("kdlab.launcher.verb").run(known[name], words[1:])
    else:
        known[name].load().main(words[1:])


def _interrupted(words: Sequence[str]) -> str:
    """The verb's sentence about what Ctrl-C leaves, if it has begun."""
    verb = verbs(list(config_dirs(words))).get(words[0]) if words else None
    module = sys.modules.get(verb.module) if verb is not None else None
    after = getattr(module, "interrupted", lambda words: "")(list(words[1:]))
    return f"interrupted; the same command {after}" if after else "interrupted"


def _no_verb(word: str, known: Sequence[str], own: Sequence[Path]) -> str:
    from difflib import get_close_matches

    meant = get_close_matches(word, known, n=1)
    hint = f"did you mean {meant[0]}? " if meant else ""
    for folder in own:
        if (folder / f"{word}.yaml").is_file():
            hint = f"{folder / f'{word}.yaml'} needs a {word}.py with main(cfg) in that folder or beside it; "
    return f"'{word}' is not a kdlab command; {hint}use one of: {', '.join(known)}"


def _complete(request: str) -> None:
    """Print a shell's completion script, or the words that fit at the cursor, which the script puts into COMP_LINE."""
    from kdlab.help import complete

    if request.startswith("query="):
        line = os.environ.get("COMP_LINE", "kdlab ")
        found = complete.answer(line, verbs(list(config_dirs(line.split()))), conf())
        print("\n".join(word.rstrip() if request == "query=fish" else word for word in found))  # fish adds the space
    else:
        print(complete.script(request), end="")


if __name__ == "__main__":
    main()
