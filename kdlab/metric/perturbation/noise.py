"""Noise on each pixel."""

from __future__ import annotations

from typing import final

import numpy as np

from kdlab.metric.perturbation.base import Perturbation


def add_noise(pixels: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Normal noise, whose standard deviation is a share of the whole range of 255.

    Args:
        pixels: ``[H, W]`` or ``[H, W, 3]`` uint8.

    Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, section 3.

    Example:
        >>> add_noise(np.full((1, 2), 128, np.uint8), 0.0, np.random.default_rng(0)).tolist()
        [[128, 128]]
    """
    noisy = pixels + 255 * strength * random.standard_normal(pixels.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


@final
class Noise(Perturbation):
    """See :func:`add_noise`."""

    reads = "image"

    def change(self, value: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
        return add_noise(value, strength, random)
