"""The perturbations of this folder, and how the value of a row is given to them."""

from __future__ import annotations

import zlib
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from kdlab.datamodule.corpus import PAIR
from kdlab.datamodule.processor.base import Processor
from kdlab.datamodule.processor.image import Drawn, Image, opened
from kdlab.metric.perturbation.base import Perturbation


@cache
def perturbations() -> dict[str, type[Perturbation]]:
    """The class of each perturbation, by the name of its file."""
    found: dict[str, type[Perturbation]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = import_module(f"{__package__}.{path.stem}")
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, Perturbation) and one.__module__ == module.__name__:
                found |= {} if one is Perturbation else {path.stem: one}
    return found


def kind_of(value: Any, processor: Processor) -> str:
    """What :attr:`Perturbation.reads` calls a value: ``text``, ``image``, or "" for others."""
    if isinstance(processor, Image):
        return "image"
    return "text" if isinstance(value, str) else ""


def perturbed(one: Perturbation, name: str, value: Any, strength: float, seed: int, row: int) -> Any:
    """The value of a row, changed; what is drawn depends on the seed, the name and the row alone.

    Each text of a pair is changed for itself. An image that is a file is read.

    Example:
        >>> from kdlab.metric.perturbation.case import Case
        >>> perturbed(Case(), "case", "ab", 1.0, 0, 7)
        'AB'
    """
    random = np.random.default_rng([seed, zlib.crc32(name.encode()), row])
    if one.reads == "image":
        image = opened(value)
        pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
        return Drawn(one.change(pixels, strength, random), f"{value}, perturbed")
    if isinstance(value, str):
        return PAIR.join(one.change(part, strength, random) for part in value.split(PAIR))
    return one.change(value, strength, random)
