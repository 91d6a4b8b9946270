"""A memory of one vector for every row of the data, from which contrastive losses draw their negatives."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from kdlab.loss.relation.rows import unit

TRIES = 4  # to draw a row of another class once more; of two equal classes 1 in 32 is then left out


class Bank(nn.Module):
    """Unit vectors ``[N + 1, D]`` by row id, random at first; the last is a place to write what must not be kept.

    They and which of them were written are buffers, so they are in every checkpoint.

    Args:
        rows: N, how many rows the data has.
        dimension: D.
        momentum: the share of the old vector when a row is written, in [0, 1).
    """

    def __init__(self, rows: int, dimension: int, momentum: float) -> None:
        super().__init__()
        self.rows, self.momentum = rows, momentum
        self.vectors: Tensor
        self.seen: Tensor
        self.register_buffer("vectors", unit(torch.randn(rows + 1, dimension)))
        self.register_buffer("seen", torch.zeros(rows + 1, dtype=torch.bool))

    def read(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors ``[..., D]`` of the rows ``[...]``, and whether each was written before, ``[...]``."""
        return self.vectors[row], self.seen[row]

    @torch.no_grad()
    def write(self, row: Tensor, vectors: Tensor, mask: Tensor) -> None:
        """Move the vectors of the rows ``[B]`` in ``mask`` towards ``vectors`` ``[B, D]``; a new one is taken as it is.

        Every process of several devices writes the rows of all.
        """
        row, vectors, mask = (gathered(value) for value in (row, vectors, mask))
        row = row.where(mask, self.rows)
        old, seen = self.read(row)
        share = self.momentum * seen[:, None].to(vectors)
        self.vectors[row] = unit(share * old + (1 - share) * vectors).to(self.vectors.dtype)
        self.seen[row] = True
        self.seen[self.rows] = False


def draw(row: Tensor, count: int, rows: int) -> Tensor:
    """``count`` row ids for each anchor of ``row`` ``[B]``, uniform over the other ``rows - 1``: ``[B, count]``.

    Example:
        >>> draw(torch.tensor([0]), 3, rows=2)  # the only other row
        tensor([[1, 1, 1]])
    """
    drawn = torch.randint(0, rows - 1, (len(row), count), device=row.device)
    return drawn + (drawn >= row[:, None])


def draw_apart(row: Tensor, count: int, label: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`draw`, of other classes than the anchor's as far as classes are known.

    Args:
        label: ``[B]``, the anchors' classes; -1 where an anchor has none: then any other row will do.
        known: ``[N]``, the classes of all rows; -1 where none is known: such a row may be drawn.

    Returns:
        ``[B, count]``, uniform over what may be drawn, and which of them may: after a few tries some, of a class that
        most rows have, may not, and must not count.

    Example:
        >>> draw_apart(torch.tensor([0]), 2, torch.tensor([7]), torch.tensor([7, 5]))
        (tensor([[1, 1]]), tensor([[True, True]]))
    """
    anchor = label[:, None]

    def fits(drawn: Tensor) -> Tensor:
        return (anchor < 0) | (known[drawn] != anchor)

    drawn = draw(row, count, len(known))
    for _ in range(TRIES):
        drawn = drawn.where(fits(drawn), draw(row, count, len(known)))
    return drawn, fits(drawn)


def gathered(values: Tensor) -> Tensor:
    """``values`` ``[B, ...]`` of all processes, one after the other; B may differ between them.

    Example:
        >>> gathered(torch.tensor([1, 2]))  # one process
        tensor([1, 2])
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return values
    world = distributed.get_world_size()
    length = torch.tensor([len(values)], device=values.device)
    sizes = [torch.zeros_like(length) for _ in range(world)]
    distributed.all_gather(sizes, length)
    longest = max(int(size) for size in sizes)
    padded = torch.zeros(longest, *values.shape[1:], dtype=values.dtype, device=values.device)
    padded[: len(values)] = values
    parts = [torch.zeros_like(padded) for _ in range(world)]
    distributed.all_gather(parts, padded.contiguous())
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])
