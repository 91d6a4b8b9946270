"""Sentences of a program's user interface and their translations: Home Assistant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kdlab.datamodule.corpus import PAIR, Corpus
from kdlab.datamodule.pairs import PairData
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.file import read_json
from kdlab.value import Count

SOURCE = (
    "package:home-assistant-frontend==20250109.2/hass_frontend/static/translations"
    "?sha256=8c4f3e4336147ed405b86809baf15823367d0ec105a0da4f4bde168e693bdd2b"
)
OTHER = re.compile(r"[{}<>\[\]]|http")  # placeholders, markup and addresses


@dataclass(kw_only=True, eq=False, repr=False)
class Translations(PairData):
    """English texts of at least ``words`` words without placeholders, each with its translation (German: 1,931).

    Args:
        path: a folder of files such as ``de-<32 hexadecimal digits>.json``, texts by key; in folders by page.
        language: of the targets: de, fr, es, zh-Hans, nl, ja and others.
        words: least words of a source.

    Source: Home Assistant's translators, in the package home-assistant-frontend (Apache-2.0).
    """

    path: str = SOURCE
    language: str = "de"
    words: Count = 3

    def corpus(self) -> Corpus:
        folder = Path(local(self.path, self.download))
        sources, targets = _texts(folder, "en"), _texts(folder, self.language)
        if not targets:
            found = sorted({path.name[:-38] for path in folder.glob("*.json") if path.stem[-33:-32] == "-"})
            raise UserError(
                f"datamodule.language={self.language} is not in {self.path}: choose one of {', '.join(found)[:300]}"
            )
        pairs = [(text, targets[key]) for key, text in sources.items() if key in targets]
        values = dict.fromkeys(
            PAIR.join(map(str.strip, pair))
            for pair in pairs
            if len(pair[0].split()) >= self.words and pair[1].strip() and not OTHER.search("".join(pair))
        )
        return Corpus("translations", list(values), [None] * len(values))


def _texts(folder: Path, language: str) -> dict[str, str]:
    """The texts of a language by key, of all pages."""
    name = re.compile(re.escape(language) + r"-[0-9a-f]{32}\.json")
    found: dict[str, str] = {}
    for path in sorted(folder.rglob(f"{language}-*.json")):
        if name.fullmatch(path.name):
            found |= read_json(path, "remove it, and download=true fetches it again", dict)
    return found
