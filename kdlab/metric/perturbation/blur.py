"""Images out of focus."""

from __future__ import annotations

from typing import final

import numpy as np
from PIL import Image, ImageFilter

from kdlab.metric.perturbation.base import Perturbation


def blur(pixels: np.ndarray, strength: float) -> np.ndarray:
    """A Gaussian blur, whose radius is a share of a quarter of the shorter side.

    Args:
        pixels: ``[H, W]`` or ``[H, W, 3]`` uint8.

    Example:
        >>> image = np.array([[0, 255, 0, 0]] * 4, np.uint8)
        >>> bool((blur(image, 0.0) == image).all()), int(blur(image, 1.0).max()) < 255
        (True, True)
    """
    radius = strength * min(pixels.shape[:2]) / 4
    if radius == 0:
        return pixels
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


@final
class Blur(Perturbation):
    """See :func:`blur`."""

    reads = "image"

    def change(self, value: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
        return blur(value, strength)
