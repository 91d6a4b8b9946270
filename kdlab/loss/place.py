"""Feature maps of images, whose places are the squares of a grid."""

from __future__ import annotations

from math import isqrt

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from kdlab.output import Output


def pooled(maps: Tensor, count: int) -> Tensor:
    """Square maps with another number of places: each is the mean over those that it covers, or repeats one of fewer.

    Args:
        maps: ``[B, L, D]``, places row after row; L is a square.
        count: of places, a square.

    Returns:
        ``[B, count, D]``.

    Example:
        >>> import torch
        >>> pooled(torch.tensor([[[1.0], [2.0], [3.0], [6.0]]]), 1)
        tensor([[[3.]]])
    """
    side = isqrt(maps.shape[1])
    grid = maps.transpose(1, 2).unflatten(2, (side, side))
    return adaptive_avg_pool2d(grid, isqrt(count)).flatten(2).transpose(1, 2)


def alike(one: Tensor, two: Tensor, output: Output) -> tuple[Tensor, Tensor]:
    """Two taps of maps with as many places: the finer one is :func:`pooled`, as in the authors' code of CRD.

    Taps of rows with tokens, of no maps, and of maps that are no squares stay as they are.

    Args:
        one, two: ``[B, L, D]`` and ``[B, M, E]``.
        output: that of one of the models, which has tokens or not.

    Source: Tian, Krishnan, Isola 2020, arXiv:1910.10699, code of the baselines (AT, SP and others).
    """
    if output.tokens is not None or one.ndim != 3 or two.ndim != 3 or one.shape[1] == two.shape[1]:
        return one, two
    sizes = (one.shape[1], two.shape[1])
    if any(isqrt(size) ** 2 != size for size in sizes):
        return one, two
    return (pooled(one, sizes[1]), two) if sizes[0] > sizes[1] else (one, pooled(two, sizes[0]))
