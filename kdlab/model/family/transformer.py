"""What the families of transformers' text models share."""

from __future__ import annotations

import logging
from abc import ABC
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.model.family.attention import KINDS, projections
from kdlab.model.family.base import Family
from kdlab.model.family.origin import Origin, Returned
from kdlab.model.label import CLASSIFIES, name_labels
from kdlab.model.quiet import quiet

log = logging.getLogger(__name__)

POSITIONS = "position_ids"  # of inputs: where each token is in its text


class Transformer(Family, ABC):
    """A transformers model whose ``config`` has the number of its layers.

    ``embedding`` is what enters the first layer, ``hidden.i`` the output of layer i, ``attention.i`` its attention
    probabilities, ``query.i``, ``key.i`` and ``value.i`` the inputs of its self-attention. As in transformers, the last
    layer's output is taken after a decoder's final norm, and attention probabilities in train mode after dropout.
    """

    kinds: ClassVar[dict[str, tuple[str, ...]]] = {
        "embedding": ("row", "token", "width"),
        "hidden": ("row", "token", "width"),
        **dict.fromkeys(KINDS, ("row", "token", "width")),
        "attention": ("row", "head", "token", "token"),
        "pooled": ("row", "width"),
    }

    def options(self, model: nn.Module, origins: Collection[Origin]) -> dict[str, Any]:
        fields = {origin.field for origin in origins if isinstance(origin, Returned)}
        if "attentions" in fields:
            use_eager_attention(model)
        return {"output_hidden_states": "hidden_states" in fields, "output_attentions": "attentions" in fields}

    def example(self, model: nn.Module) -> dict[str, Tensor] | None:
        inputs: dict[str, Tensor] = model.dummy_inputs  # type: ignore[assignment]
        return {name: value.to(model.device) for name, value in inputs.items()}  # type: ignore[arg-type]

    def taps(self, model: nn.Module) -> dict[str, Origin]:
        if getattr(model.config, "num_hidden_layers", None) is None:
            return self.pooled(model)
        depth = self.depth(model)
        found: dict[str, Origin] = {"embedding": Returned("hidden_states", 0)}
        found |= {f"hidden.{index}": Returned("hidden_states", index + 1) for index in range(depth)}
        found |= projections(model)
        if self.heads(model):
            found |= {f"attention.{index}": Returned("attentions", index) for index in range(depth)}
        return found | self.pooled(model)

    def axes(self, model: nn.Module, tap: str) -> tuple[str, ...] | None:
        return super().axes(model, tap) or self.kinds.get(tap.partition(".")[0])

    def trim(self, model: nn.Module, batch: Batch, tap: str, values: Tensor) -> Tensor:
        kind = tap.partition(".")[0]
        if kind == "attention":
            return values[..., -batch.length :]  # without the virtual keys of peft=prefix and prompt
        if kind == "pooled":
            return _last_token(model, batch, values)
        return values if kind in ("embedding", "hidden") else _real_tokens(model, batch, values)

    def adapted(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Also with positions as the model counts them: RoBERTa and its like begin after their padding id."""
        inputs = super().adapted(model, inputs)
        if POSITIONS not in inputs:
            return inputs
        tables = [part for name, part in model.named_modules() if name.endswith("position_embeddings")]
        padding = next((part.padding_idx for part in tables if isinstance(part, nn.Embedding)), None)
        return inputs if padding is None else inputs | {POSITIONS: inputs[POSITIONS] + padding + 1}

    def layers(self, model: nn.Module) -> str:
        """See :class:`Family`; of several lists of the right length the largest."""
        depth = self.depth(model)
        sizes = {
            name: sum(parameter.numel() for parameter in module.parameters())
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == depth and depth
        }
        if not sizes:
            raise UserError(
                f"Cannot split {type(model).__name__} into layers. Add a method blocks() to it that returns a list of "
                'kdlab.model.block.Block from bottom to top, such as [Block("embedding", [self.table]), '
                'Block("layer.0", [self.layer]), Block("head", [self.classifier])].'
            )
        return max(sizes, key=lambda name: sizes[name])

    def backbone(self, model: nn.Module) -> nn.Module:
        found: nn.Module = getattr(model, getattr(model, "base_model_prefix", "") or "", model)
        return found

    def depth(self, model: nn.Module) -> int:
        return int(getattr(model.config, "num_hidden_layers", None) or 0)

    def heads(self, model: nn.Module) -> int:
        return int(getattr(model.config, "num_attention_heads", None) or 0)

    def keep_layers(self, model: nn.Module, chosen: Sequence[int]) -> None:
        path, depth = self.layers(model), self.depth(model)
        super().keep_layers(model, chosen)
        for index, layer in enumerate(model.get_submodule(path).children()):
            for module in layer.modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx = index  # type: ignore[assignment]
        config: Any = model.config
        for name, value in vars(config).items():  # lists with an entry for each layer, such as layer_types
            if isinstance(value, list | tuple) and len(value) == depth and name.startswith("layer"):
                setattr(config, name, [value[index] for index in chosen])
        config.num_hidden_layers = len(chosen)

    def relabel(self, model: nn.Module, labels: Sequence[str], task: str) -> None:
        config: Any = model.config
        if task in CLASSIFIES:
            if config.num_labels != len(labels):
                new = self.new_head(model, len(labels))
                model._init_weights(new)  # type: ignore[operator]
                model.num_labels = len(labels)  # type: ignore[assignment]
            name_labels(config, labels)

    def fresh(self, model: nn.Module) -> nn.Module:
        with quiet():
            return type(model)(model.config)

    def write(self, model: nn.Module, folder: Path) -> None:
        with quiet():
            model.save_pretrained(folder)  # type: ignore[operator]


def use_eager_attention(model: nn.Module) -> None:
    """Let a model compute attention so that it returns the probabilities."""
    config: Any = model.config
    if config._attn_implementation != "eager":
        log.info(
            "%s: attention taps need attention probabilities, so attention is switched from %s to eager (slower).",
            type(model).__name__,
            config._attn_implementation,
        )
        model.set_attn_implementation("eager")  # type: ignore[operator]


def _last_token(model: nn.Module, batch: Batch, values: Tensor) -> Tensor:
    """``[B, D]``: where the classifier runs on every token, as in decoders, the last token that is not padding."""
    if values.ndim == 2:
        return values
    ids = batch.inputs["input_ids"]
    real = ids != getattr(model.config, "pad_token_id", None)
    last = (torch.arange(ids.shape[1], device=ids.device) * real).argmax(-1)
    return values[torch.arange(len(ids), device=ids.device), last]


def _real_tokens(model: nn.Module, batch: Batch, values: Tensor) -> Tensor:
    """``values`` without the positions of the virtual tokens that peft=prompt puts before every text."""
    virtual = getattr(model, "virtual_tokens", 0)
    longer = values.ndim > 2 and values.shape[1] == virtual + batch.length
    return values[:, virtual:] if virtual and longer else values
