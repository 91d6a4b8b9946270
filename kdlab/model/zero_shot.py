"""Classifiers without training on the classes: they compare a text with a description of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from kdlab.error import UserError
from kdlab.fetch import permitted
from kdlab.model.pretrained import UNREADABLE, quiet, read_config, read_model


class Cosine(nn.Module):
    """Logits ``[B, C]``: the cosines of the text's and the classes' mean token vectors, divided by a temperature.

    Args:
        encoder: returns ``last_hidden_state`` ``[B, L, D]``.
        descriptions: of each class one or more token id lists, whose vectors are averaged.
        temperature: > 0.

    Source: Reimers, Gurevych 2019 (Sentence-BERT), arXiv:1908.10084, section 3 (mean pooling, cosine); labels by
        descriptions: Yin, Hay, Roth 2019, arXiv:1909.00161.
    """

    def __init__(self, encoder: nn.Module, descriptions: Sequence[Sequence[Sequence[int]]], temperature: float) -> None:
        super().__init__()
        self.encoder = encoder.eval()
        self.classes: Tensor
        self.temperature: Tensor
        with torch.no_grad():
            vectors = [torch.cat([self.embed(torch.tensor([ids])) for ids in several]) for several in descriptions]
        self.register_buffer("classes", normalize(torch.stack([each.mean(0) for each in vectors]), dim=-1))
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def embed(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Unit vectors ``[B, D]``."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state.float()
        real = mask[..., None].to(states)
        return normalize((states * real).sum(1) / real.sum(1).clamp(min=1), dim=-1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.embed(input_ids, attention_mask) @ self.classes.T / self.temperature


class Entailment(nn.Module):
    """Logits ``[B, C]``: the entailment logit of an NLI model for the text and a hypothesis about each class.

    Args:
        model: a sequence classifier over pairs with a label named ``entailment``.
        suffixes: of each class the token ids that follow a text's own to make it a pair with the hypothesis.
        temperature: > 0; the entailment logits are divided by it.
        pad: the id of the padding token.

    Source: Yin, Hay, Roth 2019, arXiv:1909.00161, section 5 (classification as entailment).
    """

    def __init__(self, model: PreTrainedModel, suffixes: Sequence[Sequence[int]], temperature: float, pad: int) -> None:
        super().__init__()
        self.model, self.pad = model.eval(), pad
        self.index = entailing(model.config)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        for index, suffix in enumerate(suffixes):
            self.register_buffer(f"suffix_{index}", torch.tensor(suffix, dtype=torch.long))
        self.count = len(suffixes)
        self.types = getattr(model.config, "type_vocab_size", 0) > 1

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        suffixes = [self.get_buffer(f"suffix_{index}") for index in range(self.count)]
        logits = [self._entails(input_ids, attention_mask, suffix) for suffix in suffixes]
        return torch.stack(logits, -1) / self.temperature

    def _entails(self, input_ids: Tensor, attention_mask: Tensor, suffix: Tensor) -> Tensor:
        """``[B]``: the entailment logit of the rows with a hypothesis after them."""
        rows, size = len(input_ids), len(suffix)
        lengths = attention_mask.sum(-1, keepdim=True)
        where = lengths + torch.arange(size, device=input_ids.device)
        ids = torch.cat(
            [input_ids.masked_fill(attention_mask == 0, self.pad), input_ids.new_full((rows, size), self.pad)], 1
        )
        ids = ids.scatter(1, where, suffix.expand(rows, size))
        position = torch.arange(ids.shape[1], device=ids.device)
        mask = (position < lengths + size).long()
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.types:
            inputs["token_type_ids"] = ((position >= lengths) * mask).long()
        return self.model(**inputs).logits[:, self.index].float()


def entailing(config: PreTrainedConfig) -> int:
    """The index of the logit of entailment.

    Raises:
        UserError: the model has no such label.
    """
    names = {str(name).lower(): index for index, name in (config.id2label or {}).items()}
    if "entailment" not in names:
        raise UserError(
            f"teacher.by=entailment needs a model with a label 'entailment', but this one has {', '.join(names)}: give "
            "an NLI model, or choose teacher.by=cosine"
        )
    return int(names["entailment"])


def cosine(
    path: str, descriptions: Sequence[Sequence[str]], tokenizer: Any, temperature: float, download: bool
) -> Cosine:
    """A :class:`Cosine` on the encoder at ``path``.

    Raises:
        UserError: there is no encoder.
    """
    try:
        with quiet():
            encoder = AutoModel.from_pretrained(
                path, config=read_config(path, download), local_files_only=not permitted(download),
                trust_remote_code=False, weights_only=True, dtype=torch.float32,
            )  # fmt: skip
    except UNREADABLE as error:
        raise UserError(
            f"The encoder at '{path}' cannot be read ({type(error).__name__}): give a text encoder."
        ) from error
    return Cosine(
        encoder, [[tokenizer(text)["input_ids"] for text in several] for several in descriptions], temperature
    )


def entailment(path: str, hypotheses: Sequence[str], tokenizer: Any, temperature: float, download: bool) -> Entailment:
    """An :class:`Entailment` on the NLI model at ``path``.

    Raises:
        UserError: it is none, or its tokenizer does not put the hypothesis after the text.
    """
    config = read_config(path, download)
    entailing(config)
    model = read_model(path, config, download, new_head=False)
    alone = tokenizer("a")["input_ids"]
    pairs = [tokenizer("a", hypothesis)["input_ids"] for hypothesis in hypotheses]
    if any(pair[: len(alone)] != alone for pair in pairs):
        raise UserError(
            "teacher.by=entailment needs a tokenizer that writes a pair as the first text and then the second: choose "
            "another model"
        )
    return Entailment(model, [pair[len(alone) :] for pair in pairs], temperature, tokenizer.pad_token_id or 0)
