"""Tiny images for tests: three classes that differ in the direction of their stripes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("across", "along", "slanted")
SIDE = 8


def stripes(number: int, side: int = SIDE) -> np.ndarray:
    """``[side, side + 2, 3]`` uint8, of class ``number % 3``."""
    random = np.random.default_rng(number)
    found = random.uniform(0, 80, (side, side + 2, 3)).astype(np.uint8)
    slant = (np.add.outer(np.arange(side), np.arange(side + 2)) + number) % 4 == 0
    if number % 3 == 0:
        found[number % 4 :: 4] += 150
    elif number % 3 == 1:
        found[:, number % 4 :: 4] += 150
    else:
        found[slant] += 150
    return found


def folder_of_images(folder: Path, count: int = 60) -> Path:
    """A folder for each class, with images of different kinds of file."""
    for number in range(count):
        path = folder / CLASSES[number % 3] / f"{number:03d}.{'png' if number % 2 else 'bmp'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stripes(number)).save(path)
    return folder
