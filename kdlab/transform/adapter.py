"""Bottleneck adapters: two small layers after attention and after the feed-forward network of every layer."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn

from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.transform.base import Peft, only_head
from kdlab.transform.place import find
from kdlab.value import Width


class Bottleneck(nn.Module):
    """``h + up(gelu(down(h)))``: ``[..., D] -> [..., D]``; nearly what it is given before it has learned."""

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(features, size), nn.Linear(size, features)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=1e-2, a=-2e-2, b=2e-2)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.up(nn.functional.gelu(self.down(hidden)))


@final
class Adapter(Peft):
    """A bottleneck at the end of both sub-layers of every layer, before the residual sum; the norms stay as they are.

    They cannot be folded into the weights, so the saved model is one that kdlab alone reads whole.

    Args:
        size: of the bottleneck, >= 1.

    Source: Houlsby et al. 2019, arXiv:1902.00751, section 2.1 (there the layer norms learn too: freeze=layernorm does
    that without adapters).
    """

    plain = False

    def __init__(self, size: Width) -> None:
        if size < 1:
            raise UserError(f"size={size} is no width of a bottleneck: give 1 or more, such as 64")
        self.size = size

    def attach(self, model: nn.Module, data: Data | None) -> nn.Module:
        """See :class:`Transform`."""
        ends = find(model, ("attention_output", "output"), "peft=adapter")
        only_head(model)
        for end in ends.values():
            weight: Any = end.weight
            features = int(getattr(end, "out_features", 0) or weight.shape[1])
            end.add_module("adapter", Bottleneck(features, self.size).to(weight))
            end.register_forward_hook(_append)
        return model


def _append(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor:
    adapter: Any = module.adapter
    return adapter(output)
