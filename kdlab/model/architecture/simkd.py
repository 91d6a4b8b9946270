"""The module of a student with a projector and its teacher's frozen classifier on top, and its config."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from kdlab.block import Block
from kdlab.model.block import blocks
from kdlab.model.family.find import family


class SimKDConfig(PreTrainedConfig):
    """The shape of a :class:`SimKD`: the config of the inner model, and the sizes of projector and classifier."""

    model_type = "kdlab_simkd"

    def __init__(
        self,
        inner: dict[str, Any] | None = None,
        features: int = 1,
        reduction: int = 2,
        bias: bool = True,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.inner, self.features, self.reduction, self.bias = inner or {}, features, reduction, bias
        if inner:
            inside = self.inside()
            for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "pad_token_id"):
                if hasattr(inside, name):
                    setattr(self, name, getattr(inside, name))

    def inside(self) -> PreTrainedConfig:
        """The configuration of the inner model."""
        return AutoConfig.for_model(**self.inner)


class FrozenLinear(nn.Linear):
    """A linear layer whose weights are buffers: saved, loaded and moved with the model, and never trained."""

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__(in_features, out_features, bias)
        for name, parameter in list(self.named_parameters()):
            delattr(self, name)
            self.register_buffer(name, parameter.detach())


class SimKD(PreTrainedModel):
    """A model whose final linear layer is replaced by a projector, followed by the teacher's frozen classifier.

    Taps are those of the inner model, except ``pooled``, which is the output of the projector: ``[B, features]``.
    Blocks are those of the inner model, with the projector in its head; the classifier has no parameters, and is in
    no block.
    """

    config_class = SimKDConfig
    base_model_prefix = ""
    keeps_head = True
    _supports_sdpa = True

    def __init__(self, config: SimKDConfig) -> None:
        super().__init__(config)
        self.num_labels = int(config.num_labels or 0)
        self.inner = AutoModelForSequenceClassification.from_config(config.inside(), trust_remote_code=False)
        path, last = family(self.inner).find_head(self.inner)
        parent, _, name = path.rpartition(".")
        size = max(1, config.features // config.reduction)
        setattr(self.inner.get_submodule(parent), name, projector(last.in_features, size, config.features))
        self.classifier = FrozenLinear(config.features, self.num_labels, config.bias)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.reset_parameters()

    def get_input_embeddings(self) -> nn.Module:
        return self.inner.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.inner.set_input_embeddings(value)

    def blocks(self) -> list[Block]:
        return blocks(self.inner)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **others: Any
    ) -> SequenceClassifierOutput:
        output = self.inner(input_ids=input_ids, attention_mask=attention_mask, **others)
        return SequenceClassifierOutput(
            logits=self.classifier(output.logits), hidden_states=output.hidden_states, attentions=output.attentions
        )


AutoConfig.register("kdlab_simkd", SimKDConfig, exist_ok=True)
AutoModelForSequenceClassification.register(SimKDConfig, SimKD, exist_ok=True)


def projector(source: int, size: int, target: int) -> nn.Sequential:
    """``[..., source] -> [..., target]`` in three layers through ``size``; layer norms, not the paper's batch norms."""
    return nn.Sequential(
        nn.Linear(source, size), nn.LayerNorm(size), nn.ReLU(),
        nn.Linear(size, size), nn.LayerNorm(size), nn.ReLU(),
        nn.Linear(size, target),
    )  # fmt: skip
