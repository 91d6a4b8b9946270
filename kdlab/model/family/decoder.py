"""Decoders of transformers, such as GPT-2: each token sees itself and those before it."""

from __future__ import annotations

from typing import ClassVar, final

from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from kdlab.model.family.transformer import Transformer
from kdlab.model.quiet import quiet


@final
class Decoder(Transformer):
    """A model of which transformers has a causal language model and no masked one.

    As a classifier it has logits at every token; those of the last token that is not padding are the row's, and
    ``pooled`` is taken there.
    """

    auto: ClassVar[dict[str, str]] = {"causal_lm": "AutoModelForCausalLM"}
    architectures: ClassVar[dict[str, str]] = {"ForCausalLM": "causal_lm", "LMHeadModel": "causal_lm"}

    def vocabulary(self, model: nn.Module) -> int | None:
        head = model.get_output_embeddings()  # type: ignore[operator]
        return None if head is None else int(head.weight.shape[0])

    def keep_ids(self, model: nn.Module, count: int) -> None:
        with quiet():
            model.resize_token_embeddings(count)  # type: ignore[operator]

    @classmethod
    def claims(cls, model: nn.Module) -> bool:
        if not isinstance(model, PreTrainedModel):
            return False
        kind = model.config.model_type
        return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
