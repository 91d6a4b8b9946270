"""A model cut into blocks from bottom to top: what freezing, layer-wise learning rates and layer copying speak of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

from kdlab.error import UserError


@dataclass
class Block:
    """A name (``embedding``, ``layer.0``, …, ``head``), its modules, and the parameters that are its own.

    ``parameters`` is made by :func:`own`: a weight tied between blocks is the lowest block's. ``learnable`` are those
    of them that may learn, and ``still`` the modules that are in eval mode while the rest of the block learns: all and
    none, until :func:`kdlab.freeze.apply.select` says otherwise.
    """

    name: str
    modules: list[nn.Module]
    parameters: list[nn.Parameter] = field(default_factory=list)
    learnable: list[nn.Parameter] = field(default_factory=list)
    still: list[nn.Module] = field(default_factory=list)


def blocks(model: nn.Module) -> list[Block]:
    """The blocks of ``model`` from bottom to top: ``embedding``, ``layer.0`` …, ``head``.

    A model may cut itself (a method ``blocks() -> list[Block]``). Otherwise the layers are the ModuleList of
    ``config.num_hidden_layers`` modules; the backbone before it (and embedding tables beside it) is the embedding;
    what follows (final norms, pooler, classifier) is the head. Every parameter is in exactly one block.

    Raises:
        UserError: the model has no such list of layers.
    """
    cut = getattr(model, "blocks", None)
    if callable(cut):
        return own(model, cut())
    path = layers_path(model)
    parents = path.split(".")
    backbone = getattr(model, getattr(model, "base_model_prefix", "") or "", model)
    embedding: list[nn.Module] = []
    head: list[nn.Module] = []
    parent, inside = model, False
    for name in parents:
        inside = inside or parent is backbone
        before = inside
        for other, child in parent.named_children():
            if other == name:
                before = False
            elif before or (inside and any(isinstance(module, nn.Embedding) for module in child.modules())):
                embedding.append(child)
            else:
                head.append(child)
        parent = getattr(parent, name)
    head.reverse()  # the deepest come first: final norm, pooler, classifier
    layers = [Block(f"layer.{index}", [layer]) for index, layer in enumerate(parent.children())]
    return own(model, [Block("embedding", embedding), *layers, Block("head", head)])


def own(model: nn.Module, cut: list[Block]) -> list[Block]:
    """Give each parameter of ``model`` to the lowest block that holds it; strays (no block's) to the lowest block."""
    taken: set[int] = set()
    for block in cut:
        block.parameters = []
        for parameter in _parameters(block.modules):
            if id(parameter) not in taken:
                taken.add(id(parameter))
                block.parameters.append(parameter)
    cut[0].parameters += [parameter for parameter in model.parameters() if id(parameter) not in taken]
    for block in cut:
        block.learnable, block.still = list(block.parameters), []
    return cut


def layers_path(model: nn.Module) -> str:
    """The dotted path of the ModuleList that holds the layers; of several of the right length the largest."""
    count = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    sizes = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and count
    }
    if not sizes:
        raise UserError(
            f"Cannot split {type(model).__name__} into layers. Add a method blocks() to it that returns a list of "
            'kdlab.model.block.Block from bottom to top, such as [Block("embedding", [self.table]), '
            'Block("layer.0", [self.layer]), Block("head", [self.classifier])].'
        )
    return max(sizes, key=lambda name: sizes[name])


def _parameters(modules: list[nn.Module]) -> Iterator[nn.Parameter]:
    for module in modules:
        yield from module.parameters()
