"""Kinds of numbers that a config sets, as annotations of arguments: `kdlab.config.check` refuses others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

LARGEST = 2**31 - 1  # of what is counted: no row, token or layer needs a longer number


@dataclass(frozen=True)
class Within:
    """From ``low`` to ``high``; an open end is not in it.

    Example:
        >>> str(Within(0, 1, high_open=True)), 1.0 in Within(0, 1, high_open=True)
        ('from 0 to below 1', False)
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.low_open else f"from {self.low:g}"
        if self.high in (math.inf, LARGEST):
            return low if self.low_open else f"{low} up"
        if self.low_open:
            return f"{low} and at most {self.high:g}"
        return f"{low} to {'below ' * self.high_open}{self.high:.10g}"


Count = Annotated[int, Within(1, LARGEST)]
Whole = Annotated[int, Within(0, LARGEST)]
Depth = Annotated[int, Within(1, 1000)]
Width = Annotated[int, Within(1, 2**17)]
Seed = Annotated[int, Within(0, 2**32 - 1)]
Fraction = Annotated[float, Within(0, 1)]
Part = Annotated[float, Within(0, 1, low_open=True)]
Share = Annotated[float, Within(0, 1, high_open=True)]
Positive = Annotated[float, Within(0, low_open=True)]
NonNegative = Annotated[float, Within(0)]
Mode = Annotated[str, ("auto", "offline", "online", "disabled")]
Direction = Annotated[str, ("max", "min")]
Label = Annotated[str, "a name of a label"]
File = Annotated[str, "a file or folder that is there, or package:…"]
Project = Annotated[str, "a name as W&B takes it"]
