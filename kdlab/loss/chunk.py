"""A loss over some positions at a time, so that the logits of a whole batch are never in memory together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kdlab.output import Output

Step = Callable[..., tuple[Tensor, dict[str, Tensor]]]


def parts(size: int | None, *outputs: Output) -> Iterator[tuple[Output, ...]]:
    """The outputs of several models for a batch, some positions at a time, with the logits of these.

    Args:
        size: number of positions at a time; None: all, as they are.
    """
    if size is None:
        yield outputs
        return
    for positions in outputs[0].positions.split(size):
        yield tuple(one.select(positions) for one in outputs)


def summed(step: Step, size: int | None, *outputs: Output) -> tuple[Tensor, dict[str, Tensor]]:
    """``step(*outputs)``, the sum over some positions at a time: the same total and gradients to rounding.

    The result of ``step`` must be a sum over positions, divided by the count of the whole. Logits are made again on the
    way back, and freed: one part of them is in memory at a time.

    Args:
        step: from outputs to a total and its named parts.
        size: number of positions at a time; None: all at once.

    Source: Chen et al. 2016, arXiv:1604.06174 (sublinear memory by computing again).
    """
    if size is None:
        return step(*outputs)

    def some(positions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return step(*[one.select(positions) for one in outputs])

    first, *others = outputs[0].positions.split(size)
    total, values = checkpoint(some, first, use_reentrant=False)
    for positions in others:
        more, named = checkpoint(some, positions, use_reentrant=False)
        total = total + more
        values = {name: value + named[name] for name, value in values.items()}
    return total, values
