"""Encoders of transformers, such as BERT: a classifier reads the first token or a mean of all."""

from __future__ import annotations

from typing import ClassVar, final

from torch import nn
from transformers import PreTrainedModel

from kdlab.model.family.transformer import Transformer


@final
class Encoder(Transformer):
    """Any transformers model that no other family claims."""

    rank = 0
    auto: ClassVar[dict[str, str]] = {
        "sequence_classification": "AutoModelForSequenceClassification",
        "token_classification": "AutoModelForTokenClassification",
    }
    architectures: ClassVar[dict[str, str]] = {"ForTokenClassification": "token_classification"}

    @classmethod
    def claims(cls, model: nn.Module) -> bool:
        return isinstance(model, PreTrainedModel)
