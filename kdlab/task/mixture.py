"""Tokens that are drawn from a mixture of two models' distributions, the model's own and another one's."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from math import log, log1p
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Mixture:
    """Another language model that has a share in the distribution from which a model draws.

    Attributes:
        model: has the tokens of the model that draws.
        share: of it, in (0, 1).

    Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2.2 (teacher-mixed sampling).
    """

    model: nn.Module
    share: float

    def drawing(self, real: Tensor, temperature: float) -> MixedLogits:
        """What mixes the logits of each new token.

        Args:
            real: ``[B, L]`` bool: the tokens of the prompts, which end at the same position.
            temperature: > 0, of both distributions.
        """
        return MixedLogits(self, real, temperature)


class MixedLogits:
    """A processor of logits for ``generate`` of transformers; it reads each token once, by the other model's cache."""

    def __init__(self, mixture: Mixture, real: Tensor, temperature: float) -> None:
        self.mixture, self.real, self.temperature = mixture, real, temperature
        self.cache: Any = None
        self.places = "position_ids" in inspect.signature(mixture.model.forward).parameters

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits ``[B, V]`` which, divided by the temperature, are the logarithm of the mixture."""
        new = input_ids if self.cache is None else input_ids[:, -1:]
        missing = input_ids.shape[1] - self.real.shape[1]
        self.real = torch.nn.functional.pad(self.real, (0, missing), value=True)
        mask = self.real.long()
        given: dict[str, Any] = {"input_ids": new, "attention_mask": mask, "use_cache": True}
        if self.places:
            given["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -new.shape[1] :]
        if self.cache is not None:
            given["past_key_values"] = self.cache
        found = self.mixture.model(**given)
        self.cache = found.past_key_values
        return self.temperature * mixed(
            scores / self.temperature, found.logits[:, -1] / self.temperature, self.mixture.share
        ).to(scores.dtype)


def mixed(student: Tensor, teacher: Tensor, share: float) -> Tensor:
    """log(share p_teacher + (1 - share) p_student), ``[..., C]``.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        share: of the teacher, in (0, 1).

    Example:
        >>> mixed(torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]).log(), 0.2).exp()
        tensor([0.6000, 0.4000])
    """
    log_s, log_t = (one.float().log_softmax(-1) for one in (student, teacher))
    return torch.logaddexp(log_s + log1p(-share), log_t + log(share))
