"""Encoder-decoders of transformers, such as T5, BART and Marian."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kdlab.batch import Batch
from kdlab.block import Block
from kdlab.error import UserError
from kdlab.model.family.base import like
from kdlab.model.family.origin import Origin, Returned
from kdlab.model.family.transformer import Transformer, use_eager_attention

ENCODER = "encoder."  # before the name of a tap or block of the encoder
DEPTHS = {  # names that configs give to the number of layers of each side
    "decoder": ("num_decoder_layers", "decoder_layers"),
    "encoder": ("num_layers", "encoder_layers"),
}
OWN_DEPTHS = ("num_decoder_layers", "num_layers", "num_hidden_layers")  # in the config of one side


@final
class EncoderDecoder(Transformer):
    """A model with a decoder that reads an encoder's output, and a head over the target's tokens.

    ``embedding``, ``hidden.i`` and ``attention.i`` are those of the decoder; those of the encoder are
    ``encoder.embedding``, ``encoder.hidden.i`` and ``encoder.attention.i``, whose axis is that of the source. As in
    transformers, the last layer's output is taken after the final norm, where a side has one.
    """

    rank = 2
    auto: ClassVar[dict[str, str]] = {"seq2seq": "AutoModelForSeq2SeqLM"}
    architectures: ClassVar[dict[str, str]] = {
        "ForConditionalGeneration": "seq2seq",
        "MTModel": "seq2seq",
        "EncoderDecoderModel": "seq2seq",
    }
    kinds: ClassVar[dict[str, tuple[str, ...]]] = {
        "embedding": ("row", "token", "width"),
        "hidden": ("row", "token", "width"),
        "attention": ("row", "head", "token", "token"),
        f"{ENCODER}embedding": ("row", "source", "width"),
        f"{ENCODER}hidden": ("row", "source", "width"),
        f"{ENCODER}attention": ("row", "head", "source", "source"),
    }

    @classmethod
    def claims(cls, model: nn.Module) -> bool:
        if not isinstance(model, PreTrainedModel) or not getattr(model.config, "is_encoder_decoder", False):
            return False
        return model.get_output_embeddings() is not None

    def example(self, model: nn.Module) -> dict[str, Tensor] | None:
        ids = torch.tensor([[0, 1, 2]], device=next(model.parameters()).device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids}

    def taps(self, model: nn.Module) -> dict[str, Origin]:
        found: dict[str, Origin] = {}
        for before, side in ((ENCODER, "encoder"), ("", "decoder")):
            depth = len(_layers(model, side)[1])
            found[f"{before}embedding"] = Returned(f"{side}_hidden_states", 0)
            found |= {f"{before}hidden.{one}": Returned(f"{side}_hidden_states", one + 1) for one in range(depth)}
            found |= {f"{before}attention.{one}": Returned(f"{side}_attentions", one) for one in range(depth)}
        return found

    def options(self, model: nn.Module, origins: Collection[Origin]) -> dict[str, Any]:
        fields = " ".join(origin.field for origin in origins if isinstance(origin, Returned))
        if "attentions" in fields:
            use_eager_attention(model)
        return {"output_hidden_states": "hidden_states" in fields, "output_attentions": "attentions" in fields}

    def axes(self, model: nn.Module, tap: str) -> tuple[str, ...] | None:
        return getattr(model, "axes", {}).get(tap) or self.kinds.get(tap.rpartition(".")[0] or tap, self.kinds.get(tap))

    def trim(self, model: nn.Module, batch: Batch, tap: str, values: Tensor) -> Tensor:
        return values

    def layers(self, model: nn.Module) -> str:
        return _layers(model, "decoder")[0]

    def depth(self, model: nn.Module) -> int:
        return len(_layers(model, "decoder")[1])

    def heads(self, model: nn.Module) -> int:
        return int(getattr(model.config, "decoder_attention_heads", None) or super().heads(model))

    def head_path(self, model: nn.Module) -> str | None:
        return None

    def blocks(self, model: nn.Module) -> list[Block]:
        """``embedding`` of both sides, ``encoder.layer.0`` …, ``layer.0`` … of the decoder, ``head``."""
        embedding: list[nn.Module] = [model.get_input_embeddings()]  # type: ignore[operator]
        layers: list[Block] = []
        head: list[nn.Module] = []
        for before, side in ((ENCODER, "encoder"), ("", "decoder")):
            path, stack = _layers(model, side)
            own = [Block(f"{before}layer.{number}", [layer]) for number, layer in enumerate(stack)]
            parent = model.get_submodule(path.rpartition(".")[0])
            seen = False
            after: list[nn.Module] = []
            for name, child in parent.named_children():
                seen = seen or child is stack
                if child is not stack:
                    (after if seen and "embed" not in name else embedding).append(child)
            if side == "encoder":
                own[-1].modules += after
            else:
                head = after
            layers += own
        return [Block("embedding", embedding), *layers, Block("head", [*head, model.get_output_embeddings()])]  # type: ignore[operator]

    def keep_layers(self, model: nn.Module, chosen: Sequence[int]) -> None:
        _keep(model, "decoder", chosen)

    def keep_encoder_layers(self, model: nn.Module, chosen: Sequence[int]) -> None:
        _keep(model, "encoder", chosen)

    def encoder_depth(self, model: nn.Module) -> int:
        return len(_layers(model, "encoder")[1])

    def fixed(self, model: nn.Module) -> list[nn.Parameter]:
        tables = [module for module in model.modules() if "Sinusoidal" in type(module).__name__]
        return [parameter for table in tables for parameter in table.parameters()]

    def relabel(self, model: nn.Module, labels: Sequence[str], task: str) -> None:
        """Nothing: its head is over tokens."""


def _layers(model: nn.Module, side: str) -> tuple[str, nn.ModuleList]:
    """The dotted path and the list of the layers of a side, ``encoder`` or ``decoder``: the largest list there is.

    Raises:
        UserError: there is none.
    """
    stack = model.get_encoder() if side == "encoder" else model.get_decoder()  # type: ignore[operator]
    lists = {
        module: sum(parameter.numel() for parameter in module.parameters())
        for module in stack.modules()
        if isinstance(module, nn.ModuleList)
    }
    if not lists:
        raise UserError(f"Cannot split the {side} of {type(model).__name__} into layers: choose another model")
    largest = max(lists, key=lambda module: lists[module])
    return next(path for path, module in model.named_modules() if module is largest), largest


def _keep(model: nn.Module, side: str, chosen: Sequence[int]) -> None:
    """Leave only the chosen layers of a side, in the given order, in place."""
    path, layers = _layers(model, side)
    kept = [layers[one] for one in chosen]
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    _move_positions(layers, kept)
    setattr(owner, name, like(layers, kept))
    for index, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index  # type: ignore[assignment]
    config: Any = model.config
    own: Any = getattr(owner, "config", config)
    for one, keys in ((config, DEPTHS[side]), (own, OWN_DEPTHS if own is not config else ())):
        for key in keys:
            if key in vars(one):
                setattr(one, key, len(chosen))


def _move_positions(layers: nn.ModuleList, kept: Sequence[nn.Module]) -> None:
    """Let the first of the kept layers have the table of relative positions, which T5 has in its first layer alone."""
    owner = _with_positions(layers[0])
    if owner is None or kept[0] is layers[0]:
        return
    path = next(path for path, module in layers[0].named_modules() if module is owner)
    first: Any = kept[0].get_submodule(path)
    first.relative_attention_bias, first.has_relative_attention_bias = owner.relative_attention_bias, True
    owner.has_relative_attention_bias = False
    del owner.relative_attention_bias


def _with_positions(layer: nn.Module) -> Any:
    """The attention module that has a table of relative positions; None: there is none."""
    found = (module for module in layer.modules() if getattr(module, "has_relative_attention_bias", False))
    return next(found, None)
