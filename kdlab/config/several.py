"""What several values of a key may mean on a command line that does not sweep."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.types import Override


def several(swept: Override, words: Sequence[str]) -> str:
    """The ways to write what was meant, in one sentence.

    Args:
        words: of the command line that sweeps them.
    """
    line = " ".join(in_shell(word) if shlex.quote(word) != word else word for word in words)
    key, value = swept.get_key_element(), str(swept.input_line).partition("=")[2]
    match "" if "(" in value else key.rpartition(".")[2], value.count(","):  # choice(a,b) is meant as a sweep
        case "text_column", 1:
            return (
                f'{swept.input_line} gives several values: write "{key}=[{value}]" for two columns that are read as '
                f"a pair, or add -m to run each of them ({line})"
            )
        case "text_column", _:
            template = " ".join(f"{{{name.strip()}}}" for name in value.split(","))
            return (
                f"{swept.input_line} gives several values: write \"{key}='{template}'\" for one text of all these "
                f"columns, or add -m to run each of them ({line})"
            )
        case "label_column", _:
            return (
                f'{swept.input_line} gives several values: write "{key}=[{value}]" for columns of 0 and 1, one for '
                f"each label, or add -m to run each of them ({line})"
            )
    return (
        f"{swept.input_line} gives several values: add -m to run each of them ({line}), or "
        f'write a list as "{key}=[{value}]" and a word with a comma as "{key}=\'{value}\'"'
    )


def in_shell(word: str) -> str:
    """A word in quotes for a shell.

    Example:
        >>> print(in_shell("separator=';'"), in_shell("path=$HOME"))
        "separator=';'" 'path=$HOME'
    """
    return shlex.quote(word) if re.search(r'["$`\\!]', word) else f'"{word}"'
