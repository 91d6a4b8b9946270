"""The words of a text in any script."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Chinese characters, and Japanese kana: scripts without spaces between words
CHARACTER = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
CHARACTERS = re.compile(f"[{CHARACTER}]")
WORD = re.compile(f"[{CHARACTER}]|[^\\W_{CHARACTER}]+")
MOST = 0.2  # of the characters of texts, beyond which they are taken for Chinese


def words(text: str) -> list[str]:
    """The words in lower case, without punctuation; each Chinese or Japanese character is one.

    Of ASCII text these are the words of the package rouge-score, which has none for other scripts.

    Example:
        >>> words("The film_s für 8 Euro, 很好!")
        ['the', 'film', 's', 'für', '8', 'euro', '很', '好']
    """
    return WORD.findall(text.lower())


def apart(text: str) -> str:
    """The text with spaces around each Chinese or Japanese character, so that splitting at spaces gives words.

    Example:
        >>> apart("a 很好").split()
        ['a', '很', '好']
    """
    return CHARACTERS.sub(lambda found: f" {found.group()} ", text)


def chinese(texts: Sequence[str]) -> bool:
    """Whether more than a fifth of the characters of texts, spaces left out, are Chinese or Japanese.

    Example:
        >>> chinese(["我爱你", "ok"]), chinese(["a long English text with 一"])
        (True, False)
    """
    every = sum(not char.isspace() for text in texts for char in text)
    return sum(len(CHARACTERS.findall(text)) for text in texts) > MOST * every
