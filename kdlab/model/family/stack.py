"""Modules whose layers are a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.model.family.base import Family
from kdlab.model.family.origin import ModuleOutput, Origin


@final
class Stack(Family):
    """Layers in an ``nn.ModuleList`` or ``nn.Sequential``, each of which runs once, from the first to the last.

    ``hidden.i`` is the output of layer i. The modules that the model defines before the list are its embedding,
    those after it its head.

    Args:
        path: the dotted path of the list, such as ``layers`` or ``encoder.stages``.
        axes: names of the axes of a layer's output, such as ``("row", "token", "width")``. The axis ``width`` holds the
            features: a tap has it as its last, where losses expect it, so that ``("row", "width", "y", "x")`` is read
            as ``[B, y, x, width]``. Of an axis ``token`` a store keeps the real tokens only.

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
        hidden = {f"hidden.{one}": ModuleOutput((f"{layers}.{one}",)) for one in range(self.depth(model))}
        return hidden | self.pooled(model)

    def axes(self, model: nn.Module, tap: str) -> tuple[str, ...] | None:
        if not tap.startswith("hidden.") or not self.given:
            return super().axes(model, tap)
        return tuple(sorted(self.given, key=lambda axis: axis == "width"))

    def trim(self, model: nn.Module, batch: Batch, tap: str, values: Tensor) -> Tensor:
        moved = tap.startswith("hidden.") and "width" in self.given
        return values.movedim(self.given.index("width"), -1) if moved else values

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
