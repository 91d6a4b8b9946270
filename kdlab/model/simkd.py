"""Any student with a projector and the teacher's own frozen classifier on top."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from kdlab.error import UserError
from kdlab.model.block import Block, blocks
from kdlab.model.tap import final_linear
from kdlab.value import Width


class SimKDConfig(PreTrainedConfig):
    """The shape of a :class:`SimKD`: the configuration of the model inside, and the sizes of what is on top."""

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
            told = self.inside()
            for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "pad_token_id"):
                if hasattr(told, name):
                    setattr(self, name, getattr(told, name))

    def inside(self) -> PreTrainedConfig:
        """The configuration of the model inside."""
        return AutoConfig.for_model(**self.inner)


class FrozenLinear(nn.Linear):
    """A linear layer whose weights are buffers: saved, loaded and moved with the model, and never learning."""

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__(in_features, out_features, bias)
        for name, parameter in list(self.named_parameters()):
            delattr(self, name)
            self.register_buffer(name, parameter.detach())


class SimKD(PreTrainedModel):
    """A model, a projector in the place of its own final linear layer, and the teacher's classifier, which is frozen.

    Taps are those of the model inside, but ``pooled``, which is what the projector gives: ``[B, features]``. Blocks
    are those of the model inside, with the projector in its head; the classifier is in none, having no parameter.
    """

    config_class = SimKDConfig
    base_model_prefix = ""
    keeps_head = True
    _supports_sdpa = True

    def __init__(self, config: SimKDConfig) -> None:
        super().__init__(config)
        self.num_labels = int(config.num_labels or 0)
        self.inner = AutoModelForSequenceClassification.from_config(config.inside(), trust_remote_code=False)
        path, last = final_linear(self.inner)
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
        said = self.inner(input_ids=input_ids, attention_mask=attention_mask, **others)
        return SequenceClassifierOutput(
            logits=self.classifier(said.logits), hidden_states=said.hidden_states, attentions=said.attentions
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


def simkd(
    inner: Callable[..., nn.Module],
    teacher: nn.Module,
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    reduction: Width = 2,
) -> PreTrainedModel:
    """A student that ends in a copy of the teacher's final linear layer, which never learns; in train mode.

    Args:
        inner: makes the student inside from ``labels`` and ``tokenizer`` (and ``teacher``, where it asks for it).
        teacher: left as it was.
        reduction: the projector's width is the number of the classifier's inputs divided by this.

    Raises:
        UserError: the teacher or the student inside does not end in a linear layer, or labels that the teacher lacks.

    Source: Chen et al. 2022, arXiv:2203.14001, section 3.2.
    """
    from kdlab.model.pretrained import name_labels

    if reduction < 1:
        raise UserError(f"reduction is {reduction}, but must be at least 1: 2 is the paper's, 1 the widest projector.")
    _, classifier = final_linear(teacher)
    if classifier.out_features != len(labels):
        raise UserError(
            f"The teacher's classifier gives {classifier.out_features} logits, but there are {len(labels)} labels "
            f"({', '.join(labels)}): a student can only reuse one that was trained on its own labels."
        )
    given: dict[str, Any] = {"labels": labels, "tokenizer": tokenizer}
    if "teacher" in inspect.signature(inner).parameters:
        given["teacher"] = teacher
    start = inner(**given)
    if not isinstance(start, PreTrainedModel):
        raise UserError(
            f"simkd wraps a transformers model, but the student inside is a {type(start).__name__}; use another."
        )
    config = SimKDConfig(
        inner=start.config.to_dict(), features=classifier.in_features, reduction=reduction,
        bias=classifier.bias is not None,
    )  # fmt: skip
    name_labels(config, labels)
    student = SimKD(config)
    path, _ = final_linear(start)
    known = {name: value for name, value in start.state_dict().items() if not name.startswith(f"{path}.")}
    student.inner.load_state_dict(known, strict=False)
    student.classifier.load_state_dict(classifier.state_dict())
    return student.train()
