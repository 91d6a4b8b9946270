"""Images with less contrast."""

from __future__ import annotations

from typing import final

import numpy as np

from kdlab.metric.perturbation.base import Perturbation


def lower_contrast(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Every pixel goes a share of its way to the mean of the image; at strength 1 the image has one colour.

    Args:
        pixels: ``[H, W]`` or ``[H, W, 3]`` uint8.

    Example:
        >>> lower_contrast(np.array([[0, 200]], np.uint8), 0.5).tolist()
        [[50, 150]]
    """
    mean = pixels.mean((0, 1))
    return (pixels + strength * (mean - pixels)).round().clip(0, 255).astype(np.uint8)


@final
class Contrast(Perturbation):
    """See :func:`lower_contrast`."""

    reads = "image"

    def change(self, value: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
        return lower_contrast(value, strength)
