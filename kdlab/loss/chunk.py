"""A loss over some positions at a time, so that the logits of a whole batch are never in memory together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kdlab.output import Output
from kdlab.precision import current

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

    The result of ``step`` must be a sum over positions, divided by the count of the whole. The logits of one part are
    in memory at a time: the gradients of a part are computed before the next part begins, and are multiplied by that
    of the total on the way back. In float16 they would vanish before the total is scaled up; there, logits are made
    once more on the way back instead.

    Args:
        step: from outputs to a total and its named parts. Gradients reach parameters, and the logits of ``outputs``,
            but nothing else that was computed before.
        size: number of positions at a time; None: all at once.

    Source: gradients in the forward pass: Hsu et al. 2024 (Liger Kernel), arXiv:2410.10989, section 3.2; computing
        again: Chen et al. 2016, arXiv:1604.06174 (sublinear memory).
    """
    if size is None:
        return step(*outputs)
    if torch.is_grad_enabled() and current() != "float16":
        return _with_gradients(step, size, outputs)

    def some(positions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return step(*[one.select(positions) for one in outputs])

    return _added(checkpoint(some, part, use_reentrant=False) for part in outputs[0].positions.split(size))


def _added(found: Iterable[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Tensor, dict[str, Tensor]]:
    """The sums of totals and of named parts."""
    total, values = next(rest := iter(found))
    for more, named in rest:
        total = total + more
        values = {name: value + named[name] for name, value in values.items()}
    return total, values


def _with_gradients(step: Step, size: int, outputs: Sequence[Output]) -> tuple[Tensor, dict[str, Tensor]]:
    heads = [_Begin(one.head) if one.logits.requires_grad else None for one in outputs]
    learning = [head for head in heads if head is not None]
    begun = [one if head is None else replace(one, head=head) for one, head in zip(outputs, heads, strict=True)]
    sums: dict[Tensor, Tensor] = {}  # the gradients of parameters
    rows: list[list[Tensor]] = [[] for _ in learning]  # the gradients where the outputs begin, by part

    def part(*some: Output) -> tuple[Tensor, dict[str, Tensor]]:
        total, values = step(*some)
        found = dict.fromkeys(leaves(total))
        given = torch.autograd.grad(total, list(found), allow_unused=True) if found else ()
        found |= zip(found, given, strict=True)
        for head, known in zip(learning, rows, strict=True):
            gradient = found.pop(head.given, None)
            known.append(torch.zeros_like(head.given) if gradient is None else gradient)
        for leaf, gradient in found.items():
            if gradient is not None:
                sums[leaf] = sums[leaf] + gradient if leaf in sums else gradient
        return total.detach(), {name: value.detach() for name, value in values.items()}

    total, values = _added(part(*some) for some in parts(size, *begun))
    positions = outputs[0].positions
    inputs = [replace(one, head=None).select(positions).logits for one in outputs if one.logits.requires_grad]
    gradients = [torch.cat(known) for known in rows]
    return _Known.apply(total, [*gradients, *sums.values()], *inputs, *sums), values


class _Begin:
    """A head, and what it was given last, where gradients end."""

    def __init__(self, head: Callable[[Tensor], Tensor] | None) -> None:
        self.head = head

    def __call__(self, given: Tensor) -> Tensor:
        self.given = given.detach().requires_grad_()
        return self.given if self.head is None else self.head(self.given)


class _Known(torch.autograd.Function):
    """A total whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, gradients: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return total.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *[scale * gradient for gradient in ctx.saved_tensors]


def leaves(total: Tensor) -> list[Tensor]:
    """The tensors that a value was computed from and that take gradients, each once.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> [one is weight for one in leaves((weight * weight).sum())]
        [True]
    """
    found: list[Tensor] = []
    seen: set[Any] = set()
    todo = [total.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found += [node.variable] if hasattr(node, "variable") else []
            todo += [before for before, _ in node.next_functions]
    return found
