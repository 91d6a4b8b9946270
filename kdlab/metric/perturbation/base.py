"""The base of perturbations: small seeded changes of a text or an image that should not change a decision."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

WORD = re.compile(r"(\S+)")  # splits a text so that words and the spaces between them take turns


class Perturbation(ABC):
    """Changes the value of one row.

    It draws the same numbers whatever the strength is, so that a curve over strengths is smooth.

    Attributes:
        reads: the values that it changes: ``text``, strings; ``image``, pixels ``[H, W]`` or ``[H, W, 3]`` uint8.

    Example: texts in which exclamation marks take the place of full stops, with a probability::

        class Shout(Perturbation):
            reads = "text"

            def change(self, value, strength, random):
                draws = random.random(len(value))
                return "".join("!" if one == "." and draw < strength else one for one, draw in zip(value, draws))
    """

    reads: ClassVar[str]

    @abstractmethod
    def change(self, value: Any, strength: float, random: np.random.Generator) -> Any:
        """The changed value; the same one at strength 0.

        Args:
            strength: from 0, no change, to 1, the strongest.
            random: of this row and this perturbation.
        """
