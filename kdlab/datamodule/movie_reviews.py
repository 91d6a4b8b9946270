"""Sentences of English film reviews, rated by twenty people each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import Corpus, unlike
from kdlab.datamodule.rated import CLEAR, FILES, rated
from kdlab.datamodule.rated import SOURCE as RATED
from kdlab.fetch import local

SOURCE = RATED.format(file=FILES["movies"])


@dataclass(kw_only=True, eq=False, repr=False)
class MovieReviews(TextData):
    """10,070 snippets, near balanced, 27 tokens in the mean.

    The mean rating, -4 to 4, becomes ``negative`` (up to -0.5) or ``positive`` (from 0.5); those between are left out.

    Args:
        path: lines of id, rating and text, separated by tabs, in UTF-8.

    Source: Hutto and Gilbert 2014, VADER, ICWSM; snippets after Pang and Lee 2005.
    """

    path: str = SOURCE

    def corpus(self) -> Corpus:
        texts, labels = [], []
        for rating, text in rated(Path(local(self.path, self.download)), self.path):
            if abs(rating) >= CLEAR:
                texts.append(text)
                labels.append("positive" if rating > 0 else "negative")
        return Corpus("movie_reviews", *unlike(texts, labels), names=["negative", "positive"])
