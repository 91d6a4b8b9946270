"""Generated tokens: how they are chosen, what they are, and the loop that asks a model for them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlab.error import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen from a model's distribution.

    Args:
        max_new_tokens: most tokens that are generated for a row, the end token included.
        temperature: of the distribution that is drawn from; 0 takes the likeliest token (greedy).
        top_p: draws from the least number of likeliest tokens whose probability is at least this, in (0, 1].
        top_k: draws from this number of likeliest tokens; 0: from all.
        num_beams: number of beginnings of a row that a search for the likeliest row keeps; 1: no search. Only where
            nothing is drawn.

    Raises:
        UserError: a value out of its range.

    Source: Holtzman et al. 2020, arXiv:1904.09751 (top-p); Fan et al. 2018, arXiv:1805.04833 (top-k).

    Example:
        >>> Sampling(8, temperature=0.0).greedy
        True
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    num_beams: int = 1

    def __post_init__(self) -> None:
        for name, fits, range_ in (
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 (greedy) or above"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1, which is no limit"),
            ("top_k", self.top_k >= 0, "0 (no limit) or more"),
            ("num_beams", self.num_beams >= 1, "1 (no search) or more"),
            ("num_beams", self.num_beams == 1 or self.greedy, "1 where the temperature is above 0: nothing is drawn"),
        ):
            if not fits:
                raise UserError(f"{name} of the sampling is {getattr(self, name)}, but must be {range_}: change it")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature == 0

    def arguments(self) -> dict[str, Any]:
        """The settings by their names in transformers."""
        if self.greedy:
            return {"max_new_tokens": self.max_new_tokens, "do_sample": False, "num_beams": self.num_beams}
        return {
            "max_new_tokens": self.max_new_tokens,
            "do_sample": True,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
        }


@dataclass(frozen=True)
class Generated:
    """The tokens that were generated for the rows of a batch, or that the data has in their place.

    Attributes:
        tokens: ``[B, T]`` int64.
        real: ``[B, T]`` bool: the tokens of each row, the end token included; padding follows them.

    Example:
        >>> made = Generated.of([[5, 6, 1], [7]], pad=0)
        >>> made.tokens.tolist(), made.lengths.tolist(), made.ended([1]).tolist()
        ([[5, 6, 1], [7, 0, 0]], [3, 1], [True, False])
    """

    tokens: Tensor
    real: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], pad: int, device: torch.device | str = "cpu") -> Generated:
        """The tokens of each row, padded on the right."""
        length = max([1, *map(len, rows)])
        tokens = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows], dtype=torch.int64, device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        return cls(tokens, torch.arange(length, device=device) < lengths[:, None])

    @classmethod
    def until_end(cls, tokens: Tensor, ends: Sequence[int]) -> Generated:
        """Tokens ``[B, T]``, of which each row is real up to its first end token."""
        end = torch.isin(tokens, torch.tensor(ends, dtype=tokens.dtype, device=tokens.device))
        return cls(tokens, end.cumsum(1) - end.long() == 0)

    @property
    def lengths(self) -> Tensor:
        """``[B]`` int64, how many tokens each row has."""
        return self.real.sum(1)

    def ended(self, ends: Sequence[int]) -> Tensor:
        """``[B]`` bool: whether a row's last token is an end token."""
        last = (self.lengths - 1).clamp(min=0)
        token = self.tokens.gather(1, last[:, None])[:, 0]
        return torch.isin(token, torch.tensor(ends, dtype=token.dtype, device=token.device)) & (self.lengths > 0)

    def rows(self) -> list[list[int]]:
        """The real tokens of each row."""
        return [row[real].tolist() for row, real in zip(self.tokens, self.real, strict=True)]


def generate(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    sampling: Sampling,
    ends: Sequence[int],
    pad: int,
    start: int | None = None,
    processors: Sequence[Any] = (),
) -> Tensor:
    """The tokens ``[B, ...]`` that a model of transformers continues its inputs with, as its ``generate`` returns them.

    The model is in eval mode meanwhile, without gradients. What is drawn depends on torch's generator, so that the same
    seed gives the same tokens.

    Args:
        inputs: of ``forward``; rows that end in a prompt are padded on the left.
        ends: ids of the tokens after any of which a row ends; empty: each row has ``max_new_tokens``.
        pad: the id after the end of a row.
        start: the first id of a decoder that has an encoder; None: there is no encoder.
        processors: change the logits of each new token, before the temperature does.

    Raises:
        UserError: a model that cannot generate.
    """
    from transformers import GenerationConfig

    if not hasattr(model, "generate"):
        raise UserError(
            f"{type(model).__name__} has no method generate(), which generating text needs: choose a language model of "
            "transformers, such as model=gpt_tiny or model=hf, or leave generation out"
        )
    settings = GenerationConfig(
        **sampling.arguments(), pad_token_id=pad, eos_token_id=list(ends) or None, use_cache=True,
        decoder_start_token_id=start,
    )  # fmt: skip
    with torch.no_grad(), evaluating(model), own_settings(model, settings):
        return model.generate(**inputs, generation_config=settings, logits_processor=list(processors))  # type: ignore[operator]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In the context the model is in eval mode; afterwards every module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def own_settings(model: nn.Module, settings: Any) -> Iterator[None]:
    """In the context, the model's own generation settings, which fill what is not set, are these: none of a file."""
    before = model.generation_config
    model.generation_config = settings
    try:
        yield
    finally:
        model.generation_config = before
