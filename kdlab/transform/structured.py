"""Structured pruning: whole layers, attention heads and feed-forward units leave the model, by magnitude."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn

from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.model.block import blocks
from kdlab.model.family.find import family
from kdlab.model.layers_of_teacher import choose
from kdlab.transform.base import Transform
from kdlab.transform.place import at, find
from kdlab.value import Part

WIDTHS = ("intermediate_size", "hidden_dim")  # what configs call the number of feed-forward units
WHO = "transform.structured"


def importance(enter: Tensor, leave: Tensor) -> Tensor:
    """The norm of what enters each unit times the norm of what leaves it: ``[units]``, >= 0; 0 where a unit adds
    nothing.

    Args:
        enter: ``[units, in]``, the rows of the map before.
        leave: ``[out, units]``, the columns of the map behind.

    Source: Li et al. 2017, arXiv:1608.08710, section 3.1 (norms of filters), here of both sides, so that a unit's scale
    may move from one map to the other.

    Example:
        >>> importance(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])).tolist()
        [5.0, 0.0]
    """
    return enter.float().norm(dim=1) * leave.float().norm(dim=0)


def largest(values: Tensor, share: float) -> Tensor:
    """The numbers of the largest ``share`` of some values, at least one, in rising order.

    Example:
        >>> largest(torch.tensor([0.1, 3.0, 2.0, 0.0]), 0.5).tolist()
        [1, 2]
    """
    return values.topk(max(1, round(share * len(values)))).indices.sort().values


@final
class Structured(Transform):
    """Leaves only some layers, and in each layer the most important attention heads and feed-forward units.

    The model becomes smaller before the first step, and its parameters that are left then learn. With all heads its own
    class loads the saved model; with fewer, kdlab alone does, since configs have one number for heads and width.

    Args:
        layers: numbers of the layers that stay, from 0, negative ones from the top; None: all.
        heads: share of the heads of each layer that stay, in (0, 1].
        units: likewise of the feed-forward units.

    Raises:
        UserError: nothing would be pruned.

    Source: Michel et al. 2019, arXiv:1905.10650 (heads); McCarley et al. 2019, arXiv:1910.06360 (units, and distilling
    afterwards). The importance is that of :func:`importance`.
    """

    def __init__(self, layers: list[int] | None = None, heads: Part = 1.0, units: Part = 0.5) -> None:
        if layers is None and heads == units == 1:
            raise UserError("heads=1, units=1 and layers=null prune nothing: lower a share, or name layers")
        self.layers, self.heads, self.units = layers, heads, units
        self.plain = heads == 1

    def attach(self, model: nn.Module, data: Data | None) -> nn.Module:
        """See :class:`Transform`."""
        kind = family(model)
        if self.layers is not None:
            kind.keep_layers(model, choose(self.layers, kind.depth(model), f"{WHO}.layers"))
        if self.units < 1:
            _prune_units(model, self.units)
        if self.heads < 1:
            _prune_heads(model, self.heads)
        return model


def _prune_units(model: nn.Module, share: float) -> None:
    widths = set()
    for places in _of_layers(model, ("intermediate", "output")):
        (leave,) = places["output"]
        kept = largest(sum(importance(one.weight, leave.weight) for one in places["intermediate"]), share)  # type: ignore[arg-type]
        widths.add((leave.in_features, len(kept)))
        for one in places["intermediate"]:
            _keep_outputs(one, kept)
        _keep_inputs(leave, kept)
    config: Any = getattr(model, "config", None)
    ((before, after),) = widths if len(widths) == 1 else [(0, 0)]
    name = next((name for name in WIDTHS if getattr(config, name, None) == before), None)
    if name is None:
        raise UserError(
            f"{WHO}.units needs a config with one width of all feed-forward layers ({' or '.join(WIDTHS)}), which "
            f"{type(model).__name__} does not have: set {WHO}.units=1"
        )
    setattr(config, name, after)


def _prune_heads(model: nn.Module, share: float) -> None:
    attentions = [
        one for one in model.modules() if hasattr(one, "attention_head_size") and hasattr(one, "all_head_size")
    ]
    layers = list(_of_layers(model, ("query", "key", "value", "attention_output")))
    if len(attentions) != len(layers):
        raise UserError(
            f"{WHO}.heads prunes models like BERT, RoBERTa or ELECTRA, and {type(model).__name__} is none: set "
            f"{WHO}.heads=1"
        )
    for attention, places in zip(attentions, layers, strict=True):
        (value,), (leave,) = places["value"], places["attention_output"]
        size: int = attention.attention_head_size  # type: ignore[assignment]
        heads = largest(importance(value.weight, leave.weight).view(-1, size).sum(1), share)
        kept = (heads[:, None] * size + torch.arange(size)).flatten()
        for name in ("query", "key", "value"):
            _keep_outputs(places[name][0], kept)
        _keep_inputs(leave, kept)
        attention.num_attention_heads, attention.all_head_size = len(heads), len(kept)  # type: ignore[assignment]


def _of_layers(model: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, list[nn.Linear]]]:
    """The linear maps at some places, layer by layer.

    Raises:
        UserError: a layer has none there, or keeps its weights as ``[in, out]``.
    """
    found = find(model, names, WHO)
    for block in blocks(model):
        if not block.name.startswith("layer."):
            continue
        inside = {id(part) for module in block.modules for part in module.modules()}
        places: dict[str, list[nn.Linear]] = {name: [] for name in names}
        for path, module in found.items():
            if id(module) in inside:
                if not isinstance(module, nn.Linear):
                    raise UserError(f"{WHO} prunes linear maps, and {path} is a {type(module).__name__}: leave it out")
                for name in at(path) & set(names):
                    places[name].append(module)
        yield places


def _keep_outputs(linear: nn.Linear, kept: Tensor) -> None:
    """Only some rows of a map; its parameters stay the same objects."""
    linear.weight.data = linear.weight.data[kept].clone()
    if linear.bias is not None:
        linear.bias.data = linear.bias.data[kept].clone()
    linear.out_features = len(kept)


def _keep_inputs(linear: nn.Linear, kept: Tensor) -> None:
    """Only some columns of a map."""
    linear.weight.data = linear.weight.data[:, kept].clone()
    linear.in_features = len(kept)
