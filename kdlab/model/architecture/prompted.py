"""The module of a language model that classifies by the likelihood of words after a prompt, and its config."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from kdlab.block import Block
from kdlab.model.block import blocks

KIND = "kdlab_prompted"


class PromptedConfig(PreTrainedConfig):
    """The shape of a :class:`Prompted`: the config of the language model, and its prompt in tokens.

    Args:
        inner: the config of the language model, as a dict.
        prefix: the ids before a text: the examples, and what the template puts before it.
        between: the ids from a text to the word of its label.
        words: for each label the ids of its word.
        blank: the ids of texts without content, by which scores are calibrated; empty: they are not.
        ends: how many special tokens a row has before and after its text.
        mean: whether the score of a word is the mean over its tokens rather than their sum.
    """

    model_type = KIND

    def __init__(
        self,
        inner: dict[str, Any] | None = None,
        prefix: Sequence[int] = (),
        between: Sequence[int] = (),
        words: Sequence[Sequence[int]] = (),
        blank: Sequence[Sequence[int]] = (),
        ends: Sequence[int] = (0, 0),
        mean: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.inner, self.prefix, self.between = inner or {}, list(prefix), list(between)
        self.words, self.blank = [list(word) for word in words], [list(text) for text in blank]
        self.ends, self.mean = list(ends), mean
        if inner:
            inside = self.inside()
            self.vocab_size, self.pad_token_id = inside.vocab_size, inside.pad_token_id

    def inside(self) -> PreTrainedConfig:
        """The configuration of the language model."""
        return AutoConfig.for_model(**self.inner)


class Prompted(PreTrainedModel):
    """Logits ``[B, C]``: the log likelihood of the word of each label after a prompt with the row's text.

    A row of the language model is prefix, text and ``between``, and then a word of several tokens but for its last one.
    Words that begin alike share a row, and all rows share the prefix, which is read once for a batch where no
    gradient is computed. With texts without content the logits are log likelihoods less those after the mean of these.

    The score of a word is the probability that the text goes on with it, so that a word that begins another is at least
    as likely as the longer one.

    Source: Brown et al. 2020 (GPT-3), arXiv:2005.14165, section 2.4 (likelihood of options, by token or in all); Zhao
        et al. 2021, arXiv:2102.09690, section 5 (calibration); Holtzman et al. 2021, arXiv:2104.08315, section 3 (the
        same with an empty text).
    """

    config_class = PromptedConfig
    base_model_prefix = ""
    keeps_head = True
    _supports_sdpa = True

    def __init__(self, config: PromptedConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.words)
        self.inner = AutoModelForCausalLM.from_config(config.inside(), trust_remote_code=False)
        self._tied_weights_keys = {
            f"inner.{name}": f"inner.{source}" for name, source in (self.inner._tied_weights_keys or {}).items()
        }
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        self.inner._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        return self.inner.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.inner.set_input_embeddings(value)

    def blocks(self) -> list[Block]:
        return blocks(self.inner)

    @property
    def room(self) -> int | None:
        """The most tokens of a row, its special tokens included; None: any number."""
        config = self.config
        positions = getattr(config.inside(), "max_position_embeddings", None)
        if positions is None:
            return None
        longest = max(map(len, config.words)) - 1
        return int(positions) - len(config.prefix) - len(config.between) - longest + sum(config.ends)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **others: Any
    ) -> SequenceClassifierOutput:
        config, device = self.config, input_ids.device
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        texts, lengths = justified(input_ids, real.bool(), *config.ends)
        cache = self._read_prefix(device)
        score = self._score(texts, lengths, cache)
        if config.blank:
            size = max(1, *map(len, config.blank))
            ids = [[*text, *[0] * (size - len(text))] for text in config.blank]
            counts = torch.tensor([len(text) for text in config.blank], device=device)
            score = calibrated(score, self._score(torch.tensor(ids, device=device), counts, cache))
        return SequenceClassifierOutput(logits=score)

    def _read_prefix(self, device: torch.device) -> DynamicCache | None:
        """The keys and values of the prefix; None: each row reads it anew."""
        if not self.config.prefix or torch.is_grad_enabled():
            return None
        ids = torch.tensor([self.config.prefix], device=device)
        found = self.inner(input_ids=ids, use_cache=True, **self._last(1)).past_key_values
        return found if isinstance(found, DynamicCache) else None

    def _last(self, count: int) -> dict[str, int]:
        """The argument with which the language model computes the last ``count`` logits alone."""
        known = "logits_to_keep" in inspect.signature(self.inner.forward).parameters
        return {"logits_to_keep": count} if known else {}

    def _score(self, texts: Tensor, lengths: Tensor, cache: DynamicCache | None) -> Tensor:
        """``[B, C]``: the score of each label.

        Args:
            texts: ``[B, L]``, ids from the left.
            lengths: ``[B]``, how many of them are real.
        """
        config, device = self.config, texts.device
        before = [] if cache is not None else config.prefix
        begun = paths(config.words)
        rows = [joined(texts, lengths, before, [*config.between, *path]) for path in begun]
        size = max(ids.shape[1] for ids, _ in rows)
        ids = torch.cat([nn.functional.pad(ids, (size - ids.shape[1], 0)) for ids, _ in rows])
        real = torch.cat([nn.functional.pad(real, (size - real.shape[1], 0)) for _, real in rows])
        kept = 1 + max(map(len, begun))
        position = real.long().cumsum(1).sub(1).clamp(min=0)
        inputs: dict[str, Any] = {}
        if cache is not None:
            past = copy.deepcopy(cache)
            past.batch_repeat_interleave(len(ids))
            position, inputs = position + len(config.prefix), {"past_key_values": past, "use_cache": True}
            real = torch.cat([real.new_ones(len(ids), len(config.prefix)), real], 1)
        if "position_ids" in inspect.signature(self.inner.forward).parameters:
            inputs["position_ids"] = position
        logits = self.inner(input_ids=ids, attention_mask=real.long(), **self._last(kept), **inputs).logits
        logits = logits[:, -kept:].float().log_softmax(-1).unflatten(0, (len(begun), len(texts)))
        return likelihood(logits, begun, config.words, config.mean).to(device)


AutoConfig.register(KIND, PromptedConfig, exist_ok=True)
AutoModelForSequenceClassification.register(PromptedConfig, Prompted, exist_ok=True)


def paths(words: Sequence[Sequence[int]]) -> list[list[int]]:
    """What has to be read after a prompt to score all words: each word without its last token, but for those that
    begin another.

    Example:
        >>> paths([[4], [5, 6], [5, 6, 7], [8, 9]])
        [[5, 6], [8]]
    """
    all_but_last = sorted({tuple(word[:-1]) for word in words})
    return [list(one) for one in all_but_last if not any(two != one and two[: len(one)] == one for two in all_but_last)]


def likelihood(
    log_values: Tensor, begun: Sequence[Sequence[int]], words: Sequence[Sequence[int]], mean: bool
) -> Tensor:
    """The log likelihood of each word: the sum, or with ``mean`` the mean, over its tokens.

    Args:
        log_values: ``[P, B, K, V]``, log probabilities of the next token at the last K positions of each path.
        begun: the P paths, see :func:`paths`.
        words: the ids of C words.

    Returns:
        ``[B, C]``, in nats, <= 0.

    Example: two words of one token, then one of two:
        >>> from math import exp
        >>> values = torch.tensor([[[[0.5, 0.5]]], [[[0.2, 0.8]]]]).log()
        >>> [round(exp(one), 2) for one in likelihood(values[:1], [[]], [[0], [1]], False)[0].tolist()]
        [0.5, 0.5]
        >>> both = torch.cat(list(values), 1)[None]  # after the prompt, and after token 0
        >>> [round(exp(one), 2) for one in likelihood(both, [[0]], [[1], [0, 1]], False)[0].tolist()]
        [0.5, 0.4]
    """
    found = []
    for word in words:
        path = next(place for place, one in enumerate(begun) if list(one[: len(word) - 1]) == list(word[:-1]))
        first = log_values.shape[2] - 1 - len(begun[path])
        tokens = [log_values[path, :, first + place, token] for place, token in enumerate(word)]
        score = torch.stack(tokens).sum(0)
        found.append(score / len(word) if mean else score)
    return torch.stack(found, -1)


def calibrated(score: Tensor, blank: Tensor) -> Tensor:
    """Scores that are equal for a text without content; of several, for the mean of their probabilities.

    Args:
        score: ``[B, C]``, log likelihoods.
        blank: ``[N, C]``, those of N texts without content.

    Returns:
        ``[B, C]``.

    Source: Zhao et al. 2021, arXiv:2102.09690, section 5 (W = diag(p_cf)^-1, b = 0).

    Example:
        >>> calibrated(torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.9, 0.1]]).log()).softmax(-1)
        tensor([[0.5000, 0.5000]])
    """
    prior = blank.log_softmax(-1).logsumexp(0) - torch.tensor(float(len(blank))).log()
    return score - prior


def justified(ids: Tensor, real: Tensor, before: int = 0, after: int = 0) -> tuple[Tensor, Tensor]:
    """Rows from the left without their special tokens, wherever their padding is.

    Args:
        ids: ``[B, L]``.
        real: ``[B, L]`` bool.
        before, after: how many special tokens each row begins and ends with.

    Returns:
        ids ``[B, L - before]``, and ``[B]``, how many of each row are real.

    Example:
        >>> justified(torch.tensor([[0, 1, 5, 6, 2]]), torch.tensor([[False, True, True, True, True]]), 1, 1)
        (tensor([[5, 6, 2, 0]]), tensor([2]))
    """
    order = (~real).long().argsort(dim=1, stable=True)
    return ids.gather(1, order)[:, before:], (real.sum(1) - before - after).clamp(min=0)


def joined(texts: Tensor, lengths: Tensor, before: Sequence[int], after: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rows of ``before``, text and ``after`` that all end at the last position, and which positions are real.

    Args:
        texts: ``[B, L]``, ids from the left.
        lengths: ``[B]``, how many of them are real.

    Example:
        >>> joined(torch.tensor([[5, 6], [7, 0]]), torch.tensor([2, 1]), [1], [2])[0]
        tensor([[1, 5, 6, 2],
                [0, 1, 7, 2]])
    """
    device, rows = texts.device, len(texts)
    size = int(lengths.max()) if rows else 0
    first, last = (torch.tensor(one, dtype=texts.dtype, device=device).expand(rows, -1) for one in (before, after))
    pad = size - lengths[:, None]
    place = torch.arange(first.shape[1] + size, device=device) - pad  # in before and text
    source = torch.cat([first, texts[:, :size]], 1)
    ids = source.gather(1, place.clamp(min=0)) if source.shape[1] else source
    real = place >= 0
    return torch.cat([ids.where(real, 0), last], 1), torch.cat([real, torch.ones_like(last, dtype=torch.bool)], 1)


@torch.no_grad()
def looks_ahead(model: PreTrainedModel) -> bool:
    """Whether a later token changes the logits of earlier ones."""
    mode, ids = model.training, torch.tensor([[0, 1, 2], [0, 1, 3]])
    logits = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, :2].float()
    model.train(mode)
    return not torch.allclose(logits[0], logits[1], rtol=0, atol=1e-5 * float(logits.abs().max()))
