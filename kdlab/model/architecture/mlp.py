"""The module of a multilayer perceptron over words, and its config."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from kdlab.block import Block


class MLPConfig(PreTrainedConfig):
    """The shape of an :class:`MLP`."""

    model_type = "kdlab_mlp"

    def __init__(
        self,
        vocab_size: int = 1000,
        depth: int = 2,
        width: int = 128,
        input: str = "embedding",
        embedding_size: int = 128,
        dropout: float = 0.1,
        pad_token_id: int | None = None,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.vocab_size, self.pad_token_id = vocab_size, pad_token_id
        self.depth, self.width, self.dropout = depth, width, dropout
        self.input, self.embedding_size = input, embedding_size
        self.hidden_size, self.num_hidden_layers = width, depth - 1


class Words(nn.Module):
    """A table with a row for each word, averaged over the words that are no padding, plus an optional bias."""

    def __init__(self, words: int, width: int, bias: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, input_ids: Tensor, real: Tensor) -> Tensor:
        """``[B, width]`` from ids and 0/1 mask ``[B, L]``; makes neither ``[B, V]`` nor, except in a traced program,
        ``[B, L, width]``."""
        share = (real / real.sum(-1, keepdim=True).clamp(min=1)).to(self.table.weight.dtype)
        if torch.compiler.is_exporting():  # the traced shapes of embedding_bag would refuse a single row
            mean = torch.bmm(share[:, None], self.table(input_ids))[:, 0]
            return mean if self.bias is None else mean + self.bias
        mean = functional.embedding_bag(input_ids, self.table.weight, mode="sum", per_sample_weights=share)
        return mean if self.bias is None else mean + self.bias


class MLP(PreTrainedModel):
    """``depth`` linear layers from a row's words to its labels, ReLU and dropout between them.

    With ``input: bag`` the first linear layer is one on word counts divided by the row's length, stored as a table
    ``[V, width]``; no ``[B, V]`` tensor is made. With ``input: embedding`` a table ``[V, embedding_size]`` is averaged
    over the row and ``depth`` linear layers follow. Padding never counts.

    Hidden states: ``embedding`` is the table's row of each token ``[B, L, D]``; ``hidden.i`` is the i-th hidden layer
    after its ReLU and dropout, ``[B, 1, width]`` (a row has no tokens any more), for i < depth - 1.
    """

    config_class = MLPConfig
    base_model_prefix = ""

    def __init__(self, config: MLPConfig) -> None:
        super().__init__(config)
        labels = int(config.num_labels or 0)
        bag = config.input == "bag"
        outputs = [config.width] * (config.depth - 1) + [labels]
        self.num_labels = labels
        self.words = Words(config.vocab_size, outputs[0] if bag else config.embedding_size, bias=bag)
        inputs = [*outputs[:1], *outputs[:-1]] if bag else [config.embedding_size, *outputs[:-1]]
        sizes = list(zip(inputs, outputs, strict=True))[int(bag) :]
        linears: list[nn.Module] = [nn.Linear(*size) for size in sizes]
        last = linears.pop() if linears else nn.Identity()
        if bag and config.depth > 1:
            linears.insert(0, nn.Identity())  # the words' table is the first linear layer
        self.layers = nn.ModuleList(nn.Sequential(one, nn.ReLU(), nn.Dropout(config.dropout)) for one in linears)
        self.classifier = last
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, Words) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        return self.words.table

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.words.table = value  # type: ignore[assignment]

    def blocks(self) -> list[Block]:
        """As everywhere, the table is the embedding; only in a linear bag of words is it the classifier."""
        if self.config.depth == 1 and self.config.input == "bag":
            return [Block("embedding", []), Block("head", [self.words, self.classifier])]
        head = Block("head", [self.classifier])
        layers = [Block(f"layer.{index}", [layer]) for index, layer in enumerate(self.layers)]
        return [Block("embedding", [self.words]), *layers, head]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **others: Any,
    ) -> SequenceClassifierOutput:
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        state = self.words(input_ids, real)
        states = [self.words.table(input_ids)] if output_hidden_states else []
        for layer in self.layers:
            state = layer(state)
            if output_hidden_states:
                states.append(state[:, None])
        return SequenceClassifierOutput(logits=self.classifier(state), hidden_states=tuple(states) or None)


AutoConfig.register("kdlab_mlp", MLPConfig, exist_ok=True)
AutoModelForSequenceClassification.register(MLPConfig, MLP, exist_ok=True)
