"""Modules whose layers are a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.model.family.base import Family
from kdlab.model.family.origin import ModuleInput, ModuleOutput, Origin


@final
class Stack(Family):
    """Layers in an ``nn.ModuleList`` or ``nn.Sequential``, each of which runs once, from the first to the last.

    ``hidden.i`` is the output of layer i; where layers give feature maps, ``embedding`` is what enters the first. The
    modules that the model defines before the list are its embedding, those after it its head.

    Args:
        path: the dotted path of the list, such as ``layers`` or ``encoder.stages``.
        axes: names of the axes of a layer's output, such as ``("row", "token", "width")``. The axis ``width`` holds the
            features: a tap has it as its last, where losses expect it, and axes of maps between become one, ``place``,
            so that ``("row", "width", "y", "x")`` is read as ``[B, y x, width]``. Of an axis ``token`` a store keeps
            the real tokens only.

    Example:
        >>> class Net(nn.Module):
        ...     family = Stack("stages", axes=("row", "width"))
        ...
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.stem = nn.Linear(4, 3)
        ...         self.stages = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        ...         self.classifier = nn.Linear(3, 2)
        >>> list(Net.family.taps(Net()))
        ['hidden.0', 'hidden.1', 'pooled']
        >>> [block.name for block in Net.family.blocks(Net())]
        ['embedding', 'layer.0', 'layer.1', 'head']
    """

    def __init__(self, path: str, axes: Sequence[str] | None = None) -> None:
        self.path = path
        self.given = tuple(axes or ())

    def taps(self, model: nn.Module) -> dict[str, Origin]:
        layers = self.layers(model)
        hidden: dict[str, Origin] = {"embedding": ModuleInput(f"{layers}.0")} if self._maps else {}
        hidden |= {f"hidden.{one}": ModuleOutput((f"{layers}.{one}",)) for one in range(self.depth(model))}
        return hidden | self.pooled(model)

    def axes(self, model: nn.Module, tap: str) -> tuple[str, ...] | None:
        if not tap.startswith(("hidden.", "embedding")) or not self.given:
            return super().axes(model, tap)
        return ("row", "place", "width") if self._maps else tuple(sorted(self.given, key=lambda axis: axis == "width"))

    def trim(self, model: nn.Module, batch: Batch, tap: str, values: Tensor) -> Tensor:
        if not tap.startswith(("hidden.", "embedding")) or "width" not in self.given:
            return values
        at = self.given.index("width")
        return places(values, at) if self._maps else values.movedim(at, -1)

    @property
    def _maps(self) -> bool:
        """Whether a layer gives maps: a row, the width, and two axes or more of places."""
        return len(self.given) > 3 and self.given[0] == "row" and "width" in self.given and "token" not in self.given

    def layers(self, model: nn.Module) -> str:
        found = dict(model.named_modules()).get(self.path)
        if not isinstance(found, nn.ModuleList | nn.Sequential):
            raise UserError(
                f"{type(model).__name__} declares its layers at '{self.path}', where there is "
                f"{'nothing' if found is None else 'a ' + type(found).__name__}: name an nn.ModuleList or nn.Sequential"
            )
        return self.path

    def depth(self, model: nn.Module) -> int:
        return len(list(model.get_submodule(self.layers(model)).children()))


def places(maps: Tensor, width: int) -> Tensor:
    """Feature maps as a vector for each of their places, row after row: ``[B, L, D]``.

    Args:
        width: the axis of the features, not the first.

    Example:
        >>> import torch
        >>> places(torch.zeros(2, 8, 3, 4), 1).shape
        torch.Size([2, 12, 8])
    """
    return maps.movedim(width, -1).flatten(1, -2)
