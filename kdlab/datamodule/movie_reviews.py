"""Sentences of English film reviews, rated by twenty people each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import Corpus, unlike
from kdlab.error import UserError
from kdlab.fetch import local

SOURCE = (
    "sdist:vaderSentiment==3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    "!hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
    "?sha256=5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
)


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
        for number, line in enumerate(Path(local(self.path, self.download)).read_text("utf-8").splitlines(), 1):
            try:
                _, score, text = line.split("\t")
                rating = float(score)
            except ValueError as error:
                raise UserError(
                    f"line {number} of '{self.path}' is not id, rating and text with tabs between"
                ) from error
            if abs(rating) >= 0.5:
                texts.append(text.strip())
                labels.append("positive" if rating > 0 else "negative")
        return Corpus("movie_reviews", *unlike(texts, labels), names=["negative", "positive"])
