"""Text from data and files, fit to be printed: nothing in it can steer a terminal or turn the text around it."""

from __future__ import annotations

import re

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(value: object) -> str:
    """The text of ``value`` with control characters and lone surrogates replaced; tabs and line ends stay.

    A table of rich takes words in brackets for markup unless they are given as ``rich.text.Text``.

    Example:
        >>> printable("a" + chr(27) + "[31mb")
        'a\ufffd[31mb'
    """
    return CONTROL.sub("\ufffd", str(value)).encode("utf-8", "replace").decode()


def one_line(value: object, width: int = 200) -> str:
    """The same in one line of at most ``width`` characters.

    Example:
        >>> one_line("two  words, cut", width=10)
        'two words…'
    """
    text = " ".join(printable(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"
