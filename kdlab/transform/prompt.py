"""Prompt tuning: learned vectors before the words of every text."""

from __future__ import annotations

import inspect
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.transform.base import FAMILIES, Peft, only_head
from kdlab.transform.library import library
from kdlab.value import Width

STARTS = {"vocabulary": "SAMPLE_VOCAB", "random": "RANDOM"}


@final
class Prompt(Peft):
    """``tokens`` vectors, the same for every text, are put before its word embeddings; the model's own weights stay.

    Position embeddings run on from the virtual tokens to the real ones, so a text has ``tokens`` positions less. All
    layers see the virtual tokens; the head does not, nor do taps: it reads the first (or last) real token, as without
    them, and what attention gives to virtual tokens is missing from the attention taps' sums. (The library's own
    wrapper lets BERT's pooler read a virtual token, and decoders the last token, padding or not.)

    The vectors cannot be folded into the weights, so the saved model is one that kdlab alone reads whole.

    Args:
        tokens: their number, >= 1.
        start: ``vocabulary``: embeddings of words that are drawn at random; ``random``: normal with deviation 1, which
            is far from any word.

    Source: Lester, Al-Rfou, Constant 2021, arXiv:2104.08691, section 2; 2.1 for the start. There the head is the
    language model's own; a classifier's is new, and learns.
    """

    plain = False

    def __init__(self, tokens: Width, start: Literal["vocabulary", "random"] = "vocabulary") -> None:
        if tokens < 1:
            raise UserError(f"tokens={tokens} is no length of a prompt: give 1 or more, such as 20")
        if start not in STARTS:
            raise UserError(f"start={start} is not known: choose one of {', '.join(STARTS)}")
        self.tokens, self.start = tokens, start

    def attach(self, model: nn.Module, data: Data | None) -> nn.Module:
        """See :class:`Transform`."""
        library()
        from peft.tuners.prompt_tuning import PromptEmbedding, PromptTuningConfig

        if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            raise UserError(
                f"peft=prompt cannot be added to {type(model).__name__}, which has an encoder and a decoder: use "
                "peft=lora, or peft=none"
            )
        backbone: Any = model.base_model if isinstance(model, PreTrainedModel) else model
        pooler = getattr(backbone, "pooler", None)
        if backbone is model or isinstance(pooler, nn.Linear):
            why = "reads the first token before it pools" if backbone is not model else "has no word embeddings to join"
            raise UserError(
                f"peft=prompt cannot be added to {type(model).__name__}, which {why}: use {FAMILIES}; or peft=none"
            )
        words: Any = backbone.get_input_embeddings()
        config = PromptTuningConfig(
            num_virtual_tokens=self.tokens, token_dim=words.embedding_dim, num_transformer_submodules=1,
            prompt_tuning_init=STARTS[self.start],
        )  # fmt: skip
        only_head(model)
        words.add_module("prompt", PromptEmbedding(config, words).to(words.weight))
        backbone.register_forward_pre_hook(_lengthen, with_kwargs=True)
        backbone.register_forward_hook(_shorten)
        if pooler is not None:
            pooler.register_forward_pre_hook(_real)
            pooler.virtual_tokens = self.tokens
        model.virtual_tokens = self.tokens  # type: ignore[assignment]
        return model


def _lengthen(backbone: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
    """Before the backbone: ids become embeddings with the prompt before them, and the mask covers it."""
    given = dict(zip(inspect.signature(backbone.forward).parameters, args, strict=False)) | given
    words = backbone.get_input_embeddings()
    ids = given.pop("input_ids")
    prompt = words.prompt(torch.arange(words.prompt.embedding.num_embeddings, device=ids.device))
    size = len(prompt) + ids.shape[1]
    if size > (limit := getattr(backbone.config, "max_position_embeddings", size)):
        raise UserError(
            f"peft=prompt puts {len(prompt)} tokens before a text of {ids.shape[1]}, but {type(backbone).__name__} has "
            f"{limit} positions: set peft.tokens or datamodule.max_length lower"
        )
    own = words(ids)
    given["inputs_embeds"] = torch.cat([prompt.to(own).expand(len(ids), -1, -1), own], 1)
    if (mask := given.get("attention_mask")) is not None:
        if mask.ndim > 2:
            raise UserError("peft=prompt puts tokens before a text, and datamodule.pack=true joins texts: set one")
        given["attention_mask"] = torch.cat([mask.new_ones(len(ids), len(prompt)), mask], 1)
    return (), given


def _shorten(backbone: Any, _: tuple[Any, ...], output: Any) -> Any:
    """After the backbone: only the real tokens are left."""
    tokens = backbone.get_input_embeddings().prompt.embedding.num_embeddings
    output.last_hidden_state = output.last_hidden_state[:, tokens:]
    for name, own in (
        ("hidden_states", (slice(None), slice(tokens, None))),
        ("attentions", (..., slice(tokens, None), slice(tokens, None))),
    ):
        if output.get(name) is not None:
            output[name] = tuple(layer[own] for layer in output[name])
    return output


def _real(pooler: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    hidden, *others = args
    return (hidden[:, pooler.virtual_tokens :], *others)
