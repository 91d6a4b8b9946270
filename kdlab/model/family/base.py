"""Families of models: how a model is called, its taps and their axes, its blocks, layers and head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, cast

from safetensors.torch import save_model
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.block import Block
from kdlab.error import UserError
from kdlab.model.family.origin import ModuleInput, ModuleOutput, Origin

WEIGHTS = "model.safetensors"
SEGMENTS = "token_type_ids"  # of inputs: 1 where a token is of the second text of a pair, else 0


class Family(ABC):
    """Everything that differs between kinds of models. Taps, freezing, stores and students of layers go through it.

    A model may declare its family in an attribute ``family``. Otherwise it belongs to the family that claims it, among
    those whose modules are imported; the modules of this folder always are.

    Attributes:
        rank: of several families that claim a model, the one of the highest rank is taken.
        auto: by the kind of task, the name of the transformers class that loads a model for it.
        architectures: by the end of the name of a transformers class, the kind of task that it is for.
    """

    rank: ClassVar[int] = 1
    auto: ClassVar[Mapping[str, str]] = {}
    architectures: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def claims(cls, model: nn.Module) -> bool:
        """Whether a model that declares no family is one of this family."""
        return False

    # taps

    def options(self, model: nn.Module, origins: Collection[Origin]) -> dict[str, Any]:
        """Arguments of ``forward``, besides the inputs of the batch, that make it return these taps."""
        return {}

    def example(self, model: nn.Module) -> dict[str, Tensor] | None:
        """Inputs for a pass before the model is compiled, where its first pass adds hooks to it; None: it does not."""
        return None

    def logits(self, model: nn.Module, output: Any) -> Tensor:
        """The logits in the output of ``forward``.

        Raises:
            UserError: there are none.
        """
        if isinstance(output, Tensor):
            return output
        if not hasattr(output, "logits"):
            raise UserError(
                f"{type(model).__name__}.forward() gives a {type(output).__name__}: let it return the logits, or "
                "an object that has them as .logits."
            )
        return output.logits

    @abstractmethod
    def taps(self, model: nn.Module) -> dict[str, Origin]:
        """The named taps of a model from bottom to top, such as ``hidden.0``, and where their values come from."""

    def origins(self, model: nn.Module, taps: Collection[str]) -> dict[str, Origin]:
        """Where the values of some taps come from, by tap.

        Args:
            model: the model.
            taps: names of :meth:`taps`, also with a negative number, and ``module:<dotted path>``.

        Raises:
            UserError: the model has no such tap.
        """
        known = self.taps(model) if any(not tap.startswith("module:") for tap in taps) else {}
        return {tap: known.get(tap) or self._origin(model, tap, known) for tap in taps}

    def _origin(self, model: nn.Module, tap: str, known: Mapping[str, Origin]) -> Origin:
        path = tap.removeprefix("module:")
        if path and path != tap and path in dict(model.named_modules()):
            return ModuleOutput((path,))
        known = known or self.taps(model)
        kind, _, number = tap.rpartition(".")
        if number.startswith("-") and number[1:].isdecimal():
            name = f"{kind}.{int(number) + sum(other.startswith(f'{kind}.') for other in known)}"
            if name in known:
                return known[name]
        raise UserError(
            f"{type(model).__name__} has no tap '{tap}': choose among {', '.join(known)} (negative numbers "
            "count from the top), or module:<dotted path> of a submodule."
        )

    def axes(self, model: nn.Module, tap: str) -> tuple[str, ...] | None:
        """The names of a tap's axes, such as ``("row", "token", "width")``; None: nothing declares them.

        A model declares those of its submodules in an attribute ``axes``, a dict by tap such as
        ``{"module:stage": ("row", "channel", "height", "width")}``.
        """
        found: tuple[str, ...] | None = getattr(model, "axes", {}).get(tap)
        return found

    def trim(self, model: nn.Module, batch: Batch, tap: str, values: Tensor) -> Tensor:
        """The values of a tap at the positions of the batch, without those that a transform adds."""
        return values

    def adapted(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inputs of a batch as the model takes them: without :data:`SEGMENTS` where it does not tell the two texts
        of a pair apart."""
        if SEGMENTS not in inputs or SEGMENTS in signature(model.forward).parameters:
            return inputs
        return {name: value for name, value in inputs.items() if name != SEGMENTS}

    # parts

    @abstractmethod
    def layers(self, model: nn.Module) -> str:
        """The dotted path of the list of layers, an ``nn.ModuleList`` or ``nn.Sequential``.

        Raises:
            UserError: there is none.
        """

    def backbone(self, model: nn.Module) -> nn.Module:
        """The module that holds the embedding and the layers, and no head."""
        return model

    def blocks(self, model: nn.Module) -> list[Block]:
        """The model from bottom to top: ``embedding``, ``layer.0`` …, ``head``.

        A model may cut itself (a method ``blocks() -> list[Block]``). Otherwise the modules that its backbone defines
        before the list of layers (and embedding tables beside it) are the embedding; those that follow are the head.

        Raises:
            UserError: the model has no list of layers.
        """
        cut = getattr(model, "blocks", None)
        if callable(cut) and not isinstance(cut, nn.Module):
            found: list[Block] = cut()
            return found
        parent, inside, backbone = model, False, self.backbone(model)
        embedding: list[nn.Module] = []
        head: list[nn.Module] = []
        for name in self.layers(model).split("."):
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
        return [Block("embedding", embedding), *layers, Block("head", head)]

    def depth(self, model: nn.Module) -> int:
        """The number of layers; 0 where the model is no stack of layers."""
        return 0

    def vocabulary(self, model: nn.Module) -> int | None:
        """The number of token ids for which a language model has logits; None: it is none, or they cannot be cut."""
        return None

    def keep_ids(self, model: nn.Module, count: int) -> None:  # noqa: B027  where there is no vocabulary
        """Leave only the first ``count`` token ids in word embeddings and logits, in place; see :meth:`vocabulary`."""

    def heads(self, model: nn.Module) -> int:
        """The number of attention heads of a layer; 0 where it has none."""
        return 0

    def head_path(self, model: nn.Module) -> str | None:
        """The dotted path of the final linear layer, which turns the tap ``pooled`` into logits; None: there is none.

        That is the last linear layer with as many outputs as ``config.num_labels``, or, without a config, the last.
        """
        labels = getattr(getattr(model, "config", None), "num_labels", None)
        found = None
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and labels in (None, module.out_features):
                found = name
        return found

    def head(self, model: nn.Module) -> nn.Linear | None:
        """The final linear layer; None: there is none."""
        path = self.head_path(model)
        return None if path is None else cast(nn.Linear, model.get_submodule(path))

    def find_head(self, model: nn.Module) -> tuple[str, nn.Linear]:
        """Dotted path and module of the final linear layer.

        Raises:
            UserError: there is none.
        """
        path = self.head_path(model)
        if path is None:
            raise UserError(
                f"{type(model).__name__} has no final linear classifier, which is needed here: choose another model"
            )
        return path, cast(nn.Linear, model.get_submodule(path))

    def pooled(self, model: nn.Module) -> dict[str, Origin]:
        """The tap ``pooled``, where there is a final linear layer."""
        path = self.head_path(model)
        return {} if path is None else {"pooled": ModuleInput(path)}

    # copies

    def keep_layers(self, model: nn.Module, chosen: Sequence[int]) -> None:
        """Leave only the chosen layers in a model, in the given order, in place.

        Raises:
            UserError: layers that declare their widths as ``reads`` and ``gives`` do not follow each other.
        """
        path = self.layers(model)
        parent, _, name = path.rpartition(".")
        layers = list(model.get_submodule(path).children())
        _check_chain(model, layers, chosen)
        setattr(model.get_submodule(parent), name, like(model.get_submodule(path), [layers[one] for one in chosen]))

    def encoder_depth(self, model: nn.Module) -> int:
        """The number of layers of an encoder beside the layers of :meth:`layers`; 0: there is none."""
        return 0

    def keep_encoder_layers(self, model: nn.Module, chosen: Sequence[int]) -> None:
        """As :meth:`keep_layers`, of an encoder beside these layers.

        Raises:
            UserError: there is none.
        """
        raise UserError(
            f"encoder_layers={list(chosen)} chooses layers of an encoder beside a decoder, and {type(model).__name__} "
            "has none: leave encoder_layers out, and choose with layers"
        )

    def fixed(self, model: nn.Module) -> list[nn.Parameter]:
        """The parameters that never learn, such as tables of sinusoids, which are not saved either."""
        return []

    def relabel(self, model: nn.Module, labels: Sequence[str], task: str) -> None:
        """Let a copy of a model predict these labels: a head for another number of labels is new; in place."""
        found = self.head(model)
        if found is not None and found.out_features != len(labels):
            self.new_head(model, len(labels))

    def new_head(self, model: nn.Module, labels: int) -> nn.Linear:
        """Replace the final linear layer by a new one with ``labels`` outputs; returns it.

        Raises:
            UserError: there is none.
        """
        path, old = self.find_head(model)
        new = nn.Linear(old.in_features, labels, bias=old.bias is not None)
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, new)
        return new

    def fresh(self, model: nn.Module) -> nn.Module:
        """A model of the same shape with random weights, which may be the same object.

        Raises:
            UserError: a module has parameters and no method to draw them.
        """
        for name, module in model.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
            elif any(True for _ in module.parameters(recurse=False)):
                raise UserError(
                    f"pretrained=false draws new weights, but '{name}' of {type(model).__name__} has no method "
                    "reset_parameters(): add one, or keep pretrained=true"
                )
        return model

    def write(self, model: nn.Module, folder: Path) -> None:
        """Write the weights, and all files that are needed to load them, into an existing folder."""
        save_model(model, str(folder / WEIGHTS), metadata={"format": "pt"})


def like(container: nn.Module, layers: Sequence[nn.Module]) -> nn.Module:
    """The layers in a container of the same kind."""
    return nn.Sequential(*layers) if isinstance(container, nn.Sequential) else nn.ModuleList(layers)


def _check_chain(model: nn.Module, layers: Sequence[nn.Module], chosen: Sequence[int]) -> None:
    given: Any = getattr(layers[0], "reads", None)
    kept: list[Any] = [layers[one] for one in chosen]
    for index, layer in zip(chosen, kept, strict=True):
        if getattr(layer, "reads", given) != given:
            raise UserError(
                f"layers={list(chosen)} cannot be taken from the {type(model).__name__}: layer {index} reads "
                f"{layer.reads} channels, and {given} come before it: choose layers that follow each other, or "
                "a student of its own"
            )
        given = getattr(layer, "gives", given)
    if getattr(layers[-1], "gives", given) != given:
        raise UserError(
            f"layers={list(chosen)} cannot be taken from the {type(model).__name__}: the last gives {given} channels, "
            f"and its head reads {layers[-1].gives}: choose the last layer too, or a student of its own"
        )
