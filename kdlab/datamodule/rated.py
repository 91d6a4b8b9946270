"""Short English texts of four kinds, each rated by twenty people, with a number or a class."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import Corpus, unlike
from kdlab.datamodule.target import NUMBER
from kdlab.error import UserError
from kdlab.fetch import local

SOURCE = (
    "sdist:vaderSentiment==3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz!hutto_ICWSM_2014/{file}"
    "?sha256=5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
)
FILES = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
}
CLEAR = 0.5  # the least size of a rating that is a class


@dataclass(kw_only=True, eq=False, repr=False)
class Rated(TextData):
    """10,605 snippets of film reviews, 3,708 of product reviews, 5,190 of newspaper editorials, or 4,200 tweets.

    With a task of numbers the answer is the mean rating, from -4 to 4; a text that comes twice has the mean of its
    ratings. With one of classes it is ``negative`` (up to -0.5) or ``positive`` (from 0.5), and rows between are left
    out, as in :class:`kdlab.datamodule.movie_reviews.MovieReviews`.

    Args:
        domain: ``movies``, ``products``, ``tweets`` or ``editorials``.
        path: lines of id, rating and text, separated by tabs, in UTF-8; None: those of the domain.

    Source: Hutto and Gilbert 2014, VADER, ICWSM; film reviews after Pang and Lee 2005.
    """

    domain: Literal["movies", "products", "tweets", "editorials"] = "movies"
    path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.domain not in FILES:
            raise UserError(f"datamodule.domain is '{self.domain}', but must be one of {', '.join(FILES)}")

    def corpus(self) -> Corpus:
        path = self.path or SOURCE.format(file=FILES[self.domain])
        rows = rated(Path(local(path, self.download)), path)
        if self.asked == NUMBER:
            ratings: dict[str, list[float]] = defaultdict(list)
            for rating, text in rows:
                ratings[text].append(rating)
            return Corpus(self.domain, list(ratings), [str(float(np.mean(found))) for found in ratings.values()])
        clear = [(text, "positive" if rating > 0 else "negative") for rating, text in rows if abs(rating) >= CLEAR]
        texts, labels = unlike([text for text, _ in clear], [label for _, label in clear])
        return Corpus(self.domain, texts, labels, names=["negative", "positive"])


def rated(file: Path, where: str) -> list[tuple[float, str]]:
    """The rating and the text of each line of a file.

    Args:
        where: the name of the file in messages.

    Raises:
        UserError: a line is not id, rating and text.
    """
    found = []
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        try:
            _, score, text = line.split("\t")
            found.append((float(score), text.strip()))
        except ValueError as error:
            raise UserError(f"line {number} of '{where}' is not id, rating and text with tabs between") from error
    return found
