"""L2-SP: weights are pulled to where they began, and those of the new classifier to 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.model.block import blocks
from kdlab.model.family.find import family
from kdlab.penalty.base import Penalty
from kdlab.value import NonNegative


def l2_sp(
    weights: Sequence[Tensor], start: Sequence[Tensor], new: Sequence[Tensor], alpha: float, beta: float
) -> Tensor:
    """``alpha / 2 ||w - w0||^2 + beta / 2 ||w_new||^2``: a scalar.

    Args:
        weights, start: the same tensors now and at the start.
        new: tensors that have no start worth keeping.

    Example:
        >>> l2_sp([torch.tensor([2.0])], [torch.tensor([0.0])], [torch.tensor([1.0])], 1.0, 2.0)  # 4/2 + 2/2 * 1
        tensor(3.)

    Source: Li, Grandvalet, Davoine 2018, arXiv:1802.01483, section 3 (L2-SP).
    """
    moved = sum(((now - then) ** 2).sum() for now, then in zip(weights, start, strict=True))
    return torch.as_tensor(alpha / 2 * moved + beta / 2 * sum((one**2).sum() for one in new))


@final
class L2SP(Penalty):
    """:func:`l2_sp` over what learns. New is the part of the head that holds the final linear layer; all else, pooler
    and norms too, began somewhere.

    An optimizer's own weight decay pulls to 0 as well: set ``optimizer.weight_decay=0``. A copy of the weights is kept
    in memory, and none in checkpoints: a resumed run begins at the same weights before it reads its checkpoint.

    Args:
        alpha, beta: >= 0; how strongly weights are pulled to where they began, and to 0.
        model: with the weights of the start.

    Raises:
        UserError: the model's own weights do not learn, or a negative factor.

    Source: Li, Grandvalet, Davoine 2018, arXiv:1802.01483, section 3 (L2-SP).
    """

    def __init__(self, alpha: NonNegative, beta: NonNegative, model: nn.Module) -> None:
        if alpha < 0 or beta < 0:
            raise UserError(f"penalty.alpha={alpha} and penalty.beta={beta} must both be at least 0")
        if not all(parameter.requires_grad for parameter in model.parameters()):
            raise UserError(
                "penalty=l2_sp pulls the model's own weights back to where they began, but peft keeps them there "
                "altogether: set penalty=none or peft=none"
            )
        self.alpha, self.beta = alpha, beta
        new = _new(model)
        self.pairs = [(one, one.detach().clone()) for one in model.parameters() if id(one) not in new]
        self.new = [one for one in model.parameters() if id(one) in new]

    @torch.no_grad()
    def add(self) -> dict[str, Tensor]:
        self.pairs = [(now, then.to(now.device)) for now, then in self.pairs]
        pairs = [(now, then) for now, then in self.pairs if now.grad is not None]
        new = [one for one in self.new if one.grad is not None]
        for now, then in pairs:
            now.grad.add_(now - then, alpha=self.alpha)  # type: ignore[union-attr]
        for one in new:
            one.grad.add_(one, alpha=self.beta)  # type: ignore[union-attr]
        weights, start = [now for now, _ in pairs], [then for _, then in pairs]
        return {"train/penalty/l2_sp": l2_sp(weights, start, new, self.alpha, self.beta)}


def _new(model: nn.Module) -> set[int]:
    """The parameters of the part of the head that holds the final linear layer; of all the head where it has none."""
    head = blocks(model)[-1].modules
    last = family(model).head(model)
    parts = [] if last is None else [part for part in head if any(module is last for module in part.modules())]
    return {id(parameter) for part in parts or head for parameter in part.parameters()}
