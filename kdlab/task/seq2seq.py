"""The target text that answers a source text, token by token: encoder-decoder models."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.generation import Generated, Sampling, evaluating, generate
from kdlab.output import Output
from kdlab.task import causal_lm
from kdlab.task.generative import GenerativeTask
from kdlab.task.mixture import Mixture

if TYPE_CHECKING:
    from kdlab.datamodule.data import Data

LABEL = "label"  # of a batch's targets: [B, L] int64, the target's tokens with their end, -1 where a row has none
DECODER = "decoder_input_ids"


class Seq2Seq(GenerativeTask):
    """Reads logits ``[B, L, V]``; ``logits[:, t]`` predicts token ``t`` of the target from the source and the tokens
    before it.

    The decoder begins with the model's own start token, whatever the data put there: ``decoder_input_ids`` is the
    target, moved one position to the right, once. Rows of the token axis are those of the target.

    Args:
        label_smoothing: in [0, 1), as in :func:`torch.nn.functional.cross_entropy`.
        chunk: number of positions whose logits are in memory at a time, as for :class:`kdlab.task.causal_lm.CausalLM`;
            None: all of a batch.

    Source: Sutskever, Vinyals, Le 2014, arXiv:1409.3215; Vaswani et al. 2017, arXiv:1706.03762.
    """

    kind = "seq2seq"

    def check_data(self, data: Data) -> None:
        """Refuse rows that are no pairs.

        Raises:
            UserError: such rows.
        """
        if DECODER not in data.processor.inputs:
            raise UserError(
                f"task=seq2seq writes a target text for a source text, but the rows of {data.source} are no pairs "
                f"(they have {', '.join(data.processor.inputs)}): set datamodule=pairs, or another task"
            )
        super().check_data(data)

    def attach(self, model: nn.Module) -> nn.Module:
        """The model as it is, after a check that it is an encoder-decoder whose decoder is causal.

        Raises:
            UserError: it has no decoder beside an encoder, no head over the target's tokens or no start token, its
                decoder looks at later tokens, or it does more than its head to make logits, which then cannot be made
                in parts.
        """
        head = getattr(model, "get_output_embeddings", lambda: None)()
        config = getattr(model, "config", None)
        if head is None or not getattr(config, "is_encoder_decoder", False):
            raise UserError(
                f"{type(model).__name__} has no decoder that reads the output of an encoder, which task=seq2seq needs: "
                "choose model=seq2seq_tiny, or model=hf with an encoder-decoder such as T5, BART or Marian"
            )
        if start_of(model) is None:
            raise UserError(
                f"config.json of {type(model).__name__} names no decoder_start_token_id, with which a decoder begins: "
                "add the id of its start token to the file"
            )
        if next(iter(model.parameters())).device.type != "meta":
            self._look(model)
        return model

    @torch.no_grad()
    def _look(self, model: nn.Module) -> None:
        device = next(iter(model.parameters())).device
        ids, real = torch.tensor([[1, 2], [1, 2]], device=device), torch.ones(2, 2, device=device, dtype=torch.int64)
        decoder = torch.tensor([[0, 1, 2], [0, 1, 3]], device=device)
        inputs = {"input_ids": ids, "attention_mask": real, DECODER: decoder}
        batch = Batch(ids[:, 0], inputs, {LABEL: decoder}, tokens=torch.ones_like(decoder, dtype=torch.bool))
        with evaluating(model):
            whole = self._read(model, batch, (), nullcontext)
            first = whole.logits[:, :2].float()
            if not torch.allclose(first[0], first[1], rtol=0, atol=1e-5 * float(first.abs().max())):
                raise UserError(
                    f"the decoder of {type(model).__name__} looks at later tokens, so that it would see what it has to "
                    "predict: choose another model, such as model=seq2seq_tiny"
                )
            if self.chunk is None:
                return
            apart = self._read(model, batch, (), lambda: headless(model))
        assert apart.head is not None
        if not torch.allclose(apart.head(apart.logits), whole.logits, rtol=1e-3, atol=1e-4):
            raise UserError(
                f"{type(model).__name__} changes its logits after they are made, so they cannot be made in parts: set "
                "task.chunk=null."
            )

    def read(self, model: nn.Module, batch: Batch, taps: Collection[str] = ()) -> Output:
        return self._read(model, batch, taps, nullcontext if self.chunk is None else lambda: headless(model))

    def _read(self, model: nn.Module, batch: Batch, taps: Collection[str], without: Callable) -> Output:
        from kdlab.model.family.find import family
        from kdlab.model.tap import read

        with without() as head:
            logits, found = read(model, begun(batch, start_of(model)), taps)
        axes = {tap: family(model).axes(model, tap) or () for tap in found}
        real = batch.inputs["attention_mask"].bool()
        return replace(
            self.frame(logits, batch), taps=found, head=head,
            sides={tap: real for tap, own in axes.items() if "source" in own},
        )  # fmt: skip

    def frame(self, logits: Tensor, batch: Batch) -> Output:
        assert batch.tokens is not None
        label = batch.target[LABEL]
        mask = batch.tokens & (label >= 0)
        return Output(
            logits, mask, tokens=batch.tokens, count=batch.size.get("tokens") or None, label=label.where(mask, -1),
            row=batch.row,
        )  # fmt: skip

    def generate(self, model: nn.Module, batch: Batch, sampling: Sampling, mixture: Mixture | None = None) -> Generated:
        if mixture is not None:
            raise UserError(
                "module.samples.mix draws from student and teacher together, which encoder-decoder models cannot do: "
                "set module.samples.mix=0, or choose task=causal_lm"
            )
        positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        if positions is not None and sampling.max_new_tokens + 1 > positions:
            raise UserError(
                f"{sampling.max_new_tokens} new tokens after the start token are more than the {positions} positions "
                f"of the decoder of {type(model).__name__}: set max_new_tokens to {positions - 1} or less"
            )
        given: dict[str, Any] = {name: value for name, value in batch.inputs.items() if name != DECODER}
        # empty caches: transformers counts the layers of T5's decoder by those of its encoder
        given |= {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())}
        made = generate(model, given, sampling, self.ends, self.padding, start_of(model))
        return Generated.until_end(made[:, 1:], self.ends)

    def room(self, model: nn.Module, batch: Batch) -> int | None:
        positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        return None if positions is None else positions - 1  # the start token has the first

    def longest_prompt(self, model: nn.Module, new: int) -> int | None:
        positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        return None if positions is None or new < positions else 0  # a source has positions of its own

    def reference(self, batch: Batch) -> Generated:
        assert batch.tokens is not None
        return Generated(batch.target[LABEL].where(batch.tokens, self.padding), batch.tokens)

    def with_answers(self, batch: Batch, answers: Generated) -> Batch:
        ids = answers.tokens.where(answers.real, self.padding)
        first = batch.inputs[DECODER][:, :1]
        inputs = batch.inputs | {DECODER: torch.cat([first, ids[:, :-1]], 1)}
        target = batch.target | {LABEL: answers.tokens.where(answers.real, -1)}
        return replace(batch, inputs=inputs, target=target, size={}, tokens=answers.real, clean=None)


def start_of(model: nn.Module) -> int | None:
    """The id of the token with which the model's decoder begins; None: it names none."""
    found: int | None = getattr(getattr(model, "config", None), "decoder_start_token_id", None)
    return found


def begun(batch: Batch, start: int | None) -> Batch:
    """The batch with another start of the decoder; None: as it is."""
    if start is None:
        return batch
    ids = batch.inputs[DECODER].clone()
    ids[:, 0] = start
    return replace(batch, inputs=batch.inputs | {DECODER: ids})


@contextmanager
def headless(model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """In the context, the model returns the input of its head; yields the head, with the bias that BART and Marian add
    to its output."""
    bias: Tensor | None = dict(model.named_buffers()).get("final_logits_bias")
    with causal_lm.headless(model) as head:
        if bias is None:
            yield head
            return
        model._buffers["final_logits_bias"] = bias.new_zeros(1)
        try:
            yield lambda hidden: head(hidden) + bias.to(hidden.dtype)
        finally:
            model._buffers["final_logits_bias"] = bias
