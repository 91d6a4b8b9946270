"""Unstructured magnitude pruning: the smallest weights of each linear map become 0 and stay it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.model.block import blocks
from kdlab.transform.base import Transform
from kdlab.value import Fraction, Share

GROUP, KEPT = 4, 2  # of the pattern 2:4


def smallest(weight: Tensor, share: float) -> Tensor:
    """Which weights stay, ``[out, in]`` bool: all but the ``share`` of the smallest by magnitude.

    Source: Han et al. 2015, arXiv:1506.02626, section 3.

    Example:
        >>> smallest(torch.tensor([[3.0, -0.1], [0.2, -4.0]]), 0.5).tolist()
        [[True, False], [False, True]]
    """
    kept = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    kept[weight.detach().abs().flatten().argsort()[: round(share * weight.numel())]] = False
    return kept.view_as(weight)


def two_of_four(weight: Tensor) -> Tensor:
    """Which weights stay, ``[out, in]`` bool: the two largest by magnitude of each four in a row.

    Args:
        weight: its second size is a multiple of 4.

    Source: Mishra et al. 2021, arXiv:2104.08378, section 3 (the pattern that NVIDIA's sparse tensor cores compute).

    Example:
        >>> two_of_four(torch.tensor([[3.0, -0.1, 0.2, -4.0]])).tolist()
        [[True, False, False, True]]
    """
    groups = weight.detach().abs().view(len(weight), -1, GROUP)
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, groups.topk(KEPT, -1).indices, True)
    return kept.view_as(weight)


def sparsity_at(progress: float, sparsity: float, ramp: float) -> float:
    """The share of zeros at a moment of the run: it rises with the cube, fast at first, until ``ramp``.

    Source: Zhu, Gupta 2017, arXiv:1710.01878, equation 1.

    Example:
        >>> [round(sparsity_at(progress, 0.8, 0.5), 2) for progress in (0.0, 0.25, 0.7)]
        [0.0, 0.7, 0.8]
    """
    left = 0.0 if progress >= ramp else 1 - progress / ramp
    return sparsity * (1 - left**3)


@final
class Magnitude(Transform):
    """Sets the smallest weights of the linear maps of all layers to 0, more of them as training goes on.

    The saved model has its full size: zeros are a gain for compression, and for hardware that skips them.

    Args:
        sparsity: share of zeros in the end, in [0, 1); with ``2:4`` it is 1/2 whatever is given.
        pattern: ``any``, or ``2:4``, which is set before the first step.
        ramp: part of the run after which the zeros stay where they are; 0: they are chosen before the first step.
    """

    def __init__(self, sparsity: Share = 0.5, pattern: Literal["any", "2:4"] = "any", ramp: Fraction = 0.5) -> None:
        if pattern not in ("any", "2:4"):
            raise UserError(f"pattern={pattern} is not known: choose any or 2:4")
        self.sparsity, self.pattern, self.ramp = sparsity, pattern, 0.0 if pattern == "2:4" else ramp
        self.masks: dict[str, Tensor] = {}
        self._chosen = False

    def attach(self, model: nn.Module, data: Data | None) -> nn.Module:
        """See :class:`Transform`."""
        inside = {
            id(part)
            for block in blocks(model)
            if block.name.startswith("layer.")
            for module in block.modules
            for part in module.modules()
        }
        named = {name: one for name, one in model.named_modules() if id(one) in inside and isinstance(one, nn.Linear)}
        if not named:
            raise UserError(
                f"transform.magnitude prunes linear maps in layers, of which {type(model).__name__} has none"
            )
        if self.pattern == "2:4" and (odd := [name for name, one in named.items() if one.in_features % GROUP]):
            raise UserError(f"pattern=2:4 needs widths that are multiples of 4, and {odd[0]} has not: set pattern=any")
        self.names = [f"{name}.weight" for name in named]
        if self.ramp == 0:
            self._choose(model, self.sparsity)
        return model

    def after_step(self, model: nn.Module, progress: float) -> None:
        """See :class:`Transform`."""
        if self._chosen:
            self._apply(model)
        else:
            self._choose(model, sparsity_at(progress, self.sparsity, self.ramp))

    @torch.no_grad()
    def _choose(self, model: nn.Module, share: float) -> None:
        for name in self.names:
            weight = model.get_parameter(name)
            self.masks[name] = two_of_four(weight) if self.pattern == "2:4" else smallest(weight, share)
        self._chosen = share == self.sparsity
        self._apply(model)

    @torch.no_grad()
    def _apply(self, model: nn.Module) -> None:
        for name, mask in self.masks.items():
            model.get_parameter(name).mul_(mask)

    def complete(self, progress: float) -> bool:
        """See :class:`Transform`."""
        return progress >= self.ramp

    def state(self) -> dict[str, Any]:
        """See :class:`Transform`."""
        return {"chosen": self._chosen, **self.masks} if self.masks else {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See :class:`Transform`."""
        self.masks = {name: value for name, value in state.items() if name != "chosen"}
        self._chosen = bool(state["chosen"])
