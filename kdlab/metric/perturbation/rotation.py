"""Images that are turned."""

from __future__ import annotations

from typing import final

import numpy as np
from PIL import Image

from kdlab.metric.perturbation.base import Perturbation

DEGREES = 90  # at strength 1


def rotate(pixels: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """A turn about the middle by a share of 90 degrees, to a side that is drawn; corners take the image's mean.

    Args:
        pixels: ``[H, W]`` or ``[H, W, 3]`` uint8.

    Example:
        >>> image = np.arange(9, dtype=np.uint8).reshape(3, 3)
        >>> bool((rotate(image, 0.0, np.random.default_rng(0)) == image).all())
        True
    """
    angle = DEGREES * strength * (1 if random.random() < 0.5 else -1)
    if angle == 0:
        return pixels
    mean = np.atleast_1d(pixels.mean((0, 1)).round().astype(int))
    fill = int(mean[0]) if len(mean) == 1 else tuple(int(one) for one in mean)
    return np.asarray(Image.fromarray(pixels).rotate(angle, Image.Resampling.BILINEAR, fillcolor=fill))


@final
class Rotation(Perturbation):
    """See :func:`rotate`."""

    reads = "image"

    def change(self, value: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
        return rotate(value, strength, random)
