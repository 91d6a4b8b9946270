"""Prefix tuning: every layer's attention finds learned keys and values before those of the text."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.transform.base import Peft, only_head
from kdlab.transform.library import library
from kdlab.transform.place import find
from kdlab.value import Width

STARTS = ("random", "zero")


@final
class Prefix(Peft):
    """``tokens`` keys and values a layer, the same for every text, are put before those of the text; the model's own
    weights stay.

    The sequence does not get longer, nor do positions change (in the library's own wrapper a text begins at position
    ``tokens``): taps are those of the real tokens, and what attention gives to the prefix is missing from the attention
    taps' sums. It does not begin as the model that it was added to: attention is shared with the prefix at once, even
    where it is zero.

    Keys and values cannot be folded into the weights, so the saved model is one that kdlab alone reads whole.

    Args:
        tokens: their number, >= 1.
        hidden: width of a network of two layers that makes them from one vector a token; null: they learn as they are.
        start: ``random``: normal with deviation 1 where they learn as they are; ``zero``: keys and values are 0.

    Source: Li, Liang 2021, arXiv:2101.00190, section 4.2, and 4.3 for ``hidden``; on every layer of a classifier's
    encoder Liu et al. 2021 (P-Tuning v2), arXiv:2110.07602, section 3.2. Here each layer has a network of its own.
    """

    plain = False

    def __init__(self, tokens: Width, hidden: Width | None = None, start: Literal["random", "zero"] = "random") -> None:
        if tokens < 1 or (hidden is not None and hidden < 1):
            raise UserError(f"tokens={tokens} and hidden={hidden} must be at least 1, or hidden null")
        if start not in STARTS:
            raise UserError(f"start={start} is not known: choose one of {', '.join(STARTS)}")
        self.tokens, self.hidden, self.start = tokens, hidden, start

    def attach(self, model: nn.Module, data: Data | None) -> nn.Module:
        """See :class:`Transform`."""
        library()
        from peft.tuners.prefix_tuning import PrefixEncoder, PrefixTuningConfig

        keys = {path.rpartition(".")[0]: key for path, key in find(model, ("key",), "peft=prefix").items()}
        for path in keys:
            if "past_key_values" not in inspect.signature(model.get_submodule(path).forward).parameters:
                raise UserError(
                    f"peft=prefix needs attention that takes earlier keys and values, which {type(model).__name__}'s "
                    "does not: use a model of the family of BERT, RoBERTa, ELECTRA, GPT-2 or Llama, or peft=prompt"
                )
        if isinstance(model, PreTrainedModel) and model.config._attn_implementation not in ("eager", "sdpa"):
            model.set_attn_implementation("sdpa")  # masks of the others are not tensors of every query and key
        only_head(model)
        for path, key in keys.items():
            attention, weight = model.get_submodule(path), next(key.parameters())
            width = key.out_features if isinstance(key, nn.Linear) else int(weight.shape[1]) // 3  # GPT-2's are fused
            config = PrefixTuningConfig(
                num_virtual_tokens=self.tokens, token_dim=width, num_layers=1, encoder_hidden_size=self.hidden,  # type: ignore[arg-type]
                prefix_projection=self.hidden is not None, init_weights="zero" if self.start == "zero" else None,
            )  # fmt: skip
            attention.add_module("prefix", PrefixEncoder(config).to(weight))
            attention.register_forward_pre_hook(_lengthen, with_kwargs=True)
        return model


@dataclass(frozen=True)
class Earlier:
    """Keys and values ``[P, D]`` in the form in which attention takes those of earlier tokens."""

    keys: Tensor
    values: Tensor

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Own and given ``[B, H, L, D / H]`` in a row, ``[B, H, P + L, D / H]``."""
        return _before(self.keys, keys), _before(self.values, values)


def _before(own: Tensor, given: Tensor) -> Tensor:
    rows, heads, _, size = given.shape
    return torch.cat([own.to(given).view(-1, heads, size).transpose(0, 1).expand(rows, -1, -1, -1), given], 2)


def _lengthen(attention: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
    """Before attention: the prefix in the place of a cache, which a classifier has no use for, and a mask for it."""
    given = dict(zip(inspect.signature(attention.forward).parameters, args, strict=False)) | given
    hidden, mask = given["hidden_states"], given.get("attention_mask")
    prefix = attention.prefix(torch.arange(attention.prefix.embedding.num_embeddings, device=hidden.device))
    given["past_key_values"] = Earlier(*prefix.chunk(2, -1))
    if mask is None and getattr(attention, "is_causal", False):
        mask = hidden.new_ones(1, 1, hidden.shape[1], hidden.shape[1], dtype=torch.bool).tril()
    if mask is not None:
        free = mask.new_full((*mask.shape[:-1], len(prefix)), mask.dtype == torch.bool)  # True, or 0 to be added
        given["attention_mask"] = torch.cat([free, mask], -1)
    return (), given
