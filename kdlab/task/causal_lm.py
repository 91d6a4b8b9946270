"""The next token at every position of a text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlab.batch import ANSWER, Batch
from kdlab.error import UserError
from kdlab.generation import Generated, Sampling, generate
from kdlab.output import Output
from kdlab.task.generative import GenerativeTask, Source, last_run
from kdlab.task.mixture import Mixture
from kdlab.value import Count, Share

if TYPE_CHECKING:
    from kdlab.datamodule.data import Data

LOUD = 100.0  # a logit beyond the caps of models that have one


class CausalLM(GenerativeTask):
    """Reads logits ``[B, L, V]``; ``logits[:, t]`` predicts token ``t + 1``.

    Any texts will do; the labels of rows are not read. Where rows have prompts and answers, the loss is over the tokens
    of the answers alone: the batch's target ``answer`` ``[B, L]`` marks them.

    Args:
        prompt: number of tokens of a text without an answer of its own that generating goes on from.
        label_smoothing: in [0, 1), as in :func:`torch.nn.functional.cross_entropy`.
        chunk: number of positions whose logits are in memory at a time, in training, validation and the teacher's
            pass: the losses and gradients are the same to rounding, and are computed from hidden states, of which
            logits are made once more on the way back. None: all logits of a batch at once.

    Source: making logits in parts and again on the way back: Wijmans et al. 2024 (Cut Your Losses), arXiv:2411.09009;
        Chen et al. 2016, arXiv:1604.06174 (checkpointing).
    """

    kind = "causal_lm"
    reads_packs = True

    def __init__(self, label_smoothing: Share = 0.0, chunk: Count | None = None, prompt: Count = 16) -> None:
        super().__init__(label_smoothing, chunk)
        if prompt < 1:
            raise UserError(f"task.prompt is {prompt}, but must be 1 or more tokens, from which a text goes on.")
        self.prompt = prompt
        self.head_apart = chunk is not None  # whether read() leaves the head to the output

    def check_data(self, data: Data) -> None:
        """Refuse rows that are no sequence of tokens.

        Raises:
            UserError: such rows.
        """
        if "input_ids" not in data.processor.inputs:
            raise UserError(
                f"task=causal_lm predicts the next token of a text, but the rows of {data.source} have no input_ids "
                f"(they have {', '.join(data.processor.inputs)}): choose a data set of texts, or another task"
            )
        if "decoder_input_ids" in data.processor.inputs:
            raise UserError(f"{data.source} has pairs of a source and a target: set task=seq2seq, which writes targets")
        super().check_data(data)

    def attach(self, model: nn.Module) -> nn.Module:
        """The model as it is, after a check that it is a causal language model.

        Raises:
            UserError: it has no word embeddings or no head over them, lets later tokens change the logits of earlier
                ones, or does more than its head to make logits, which then cannot be made in parts.
        """
        head = getattr(model, "get_output_embeddings", lambda: None)()
        if head is None:
            raise UserError(
                f"{type(model).__name__} gives no logits of a next token, which task=causal_lm needs: choose "
                "model=gpt_tiny, or model=hf with a causal language model."
            )
        if next(iter(model.parameters())).device.type != "meta":
            self._look(model)
        return model

    @torch.no_grad()
    def _look(self, model: nn.Module) -> None:
        logits, separable = self._probe(model)
        first = logits[:, :2].float()
        if not torch.allclose(first[0], first[1], rtol=0, atol=1e-5 * float(first.abs().max())):
            raise UserError(
                f"{type(model).__name__} looks at later tokens, so that it would see what it has to predict: choose a "
                "causal language model, such as model=gpt_tiny."
            )
        if self.chunk is not None and not separable:
            raise UserError(
                f"{type(model).__name__} changes its logits after they are made, so they cannot be made in parts: set "
                "task.chunk=null."
            )

    def _probe(self, model: nn.Module) -> tuple[Tensor, bool]:
        """The logits of two short rows that differ in the last token, and whether the head alone makes them."""
        modes = {module: module.training for module in model.modules()}
        ids = torch.tensor([[0, 1, 2], [0, 1, 3]], device=next(iter(model.parameters())).device)
        real = torch.ones_like(ids)
        batch = Batch(ids[:, 0], {"input_ids": ids, "attention_mask": real}, tokens=real.bool())
        try:
            whole = self._read(model.eval(), batch, (), nullcontext)
            apart = self._read(model, batch, (), lambda: headless(model))
            assert apart.head is not None
            made = apart.head(apart.logits)
            with louder(model, factor := LOUD / float(made.abs().max().clamp(min=1e-6))):  # a cap bends large ones only
                changed = self._read(model, batch, (), nullcontext).logits
        finally:
            for module, mode in modes.items():
                module.training = mode
        return whole.logits, torch.allclose(factor * made, changed, rtol=1e-3, atol=1e-3)

    @torch.no_grad()
    def in_parts(self, model: nn.Module) -> CausalLM:
        if self.head_apart or not self._probe(model)[1]:
            return self
        task = copy(self)
        task.head_apart = True
        return task

    def read(self, model: nn.Module, batch: Batch, taps: Collection[str] = ()) -> Output:
        return self._read(model, batch, taps, (lambda: headless(model)) if self.head_apart else nullcontext)

    def _read(self, model: nn.Module, batch: Batch, taps: Collection[str], without: Callable) -> Output:
        from kdlab.model.tap import read

        with without() as head:
            logits, found = read(model, batch, taps)
        logits = logits[:, -batch.length :]  # without the virtual tokens of peft=prompt
        return replace(self.frame(logits, batch), taps=found, head=head)

    def frame(self, logits: Tensor, batch: Batch) -> Output:
        assert batch.tokens is not None
        ids, real = batch.inputs["input_ids"], batch.tokens
        mask = torch.zeros_like(real)
        answer = batch.target.get(ANSWER, real)
        mask[:, :-1] = real[:, 1:] & real[:, :-1] & answer[:, 1:]
        label = torch.full_like(ids, -1)
        label[:, :-1] = ids[:, 1:]
        return Output(
            logits, mask, tokens=real, count=batch.size.get("tokens") or None, label=label.where(mask, -1),
            row=batch.row,
        )  # fmt: skip

    @property
    def prompts(self) -> Mapping[str, Any]:
        return {"prompt": self.prompt}

    def generate(self, model: nn.Module, batch: Batch, sampling: Sampling, mixture: Mixture | None = None) -> Generated:
        if "position_ids" in batch.inputs:
            raise UserError(
                "a row of datamodule.pack=true has several texts, so that nothing can be generated from it: set "
                "datamodule.pack=false"
            )
        begin, _ = self._answers(batch)
        length, room = int(begin.max()), self.room(model, batch)
        if room is not None and sampling.max_new_tokens > room:
            raise UserError(
                f"a prompt of {length} tokens and {sampling.max_new_tokens} new ones are more than the {length + room} "
                f"positions of {type(model).__name__}: set a smaller datamodule.max_length or max_new_tokens"
            )
        # prompts end at the same position, so that each is followed by its own answer
        place = torch.arange(length, device=begin.device) - (length - begin)[:, None]
        real = place >= 0
        ids = batch.inputs["input_ids"].gather(1, place.clamp(min=0)).where(real, self.padding)
        given = {"input_ids": ids, "attention_mask": real.long()}
        processors = [] if mixture is None else [mixture.drawing(real, sampling.temperature)]
        made = generate(model, given, sampling, self.ends, self.padding, processors=processors)
        return Generated.until_end(made[:, length:], self.ends)

    def room(self, model: nn.Module, batch: Batch) -> int | None:
        return self.longest_prompt(model, int(self._answers(batch)[0].max()))

    def longest_prompt(self, model: nn.Module, new: int) -> int | None:
        positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        return None if positions is None else int(positions) - new

    def prompt_texts(self, batch: Batch, data: Source) -> list[str]:
        begin, _ = self._answers(batch)
        rows = zip(batch.inputs["input_ids"], begin.tolist(), strict=True)
        return data.processor.decode([ids[:length].tolist() for ids, length in rows])

    def reference(self, batch: Batch) -> Generated:
        begin, end = self._answers(batch)
        length = max(1, int((end - begin).max()))
        place = torch.arange(length, device=begin.device) + begin[:, None]
        real = place < end[:, None]
        ids = batch.inputs["input_ids"].gather(1, place.clamp(max=batch.length - 1)).where(real, self.padding)
        return Generated(ids, real)

    def with_answers(self, batch: Batch, answers: Generated) -> Batch:
        begin, _ = self._answers(batch)
        end = begin + answers.lengths
        place = torch.arange(int(end.max()), device=begin.device).expand(len(batch), -1)
        answer, real = (place >= begin[:, None]) & (place < end[:, None]), place < end[:, None]
        prompt = batch.inputs["input_ids"].gather(1, place.clamp(max=batch.length - 1))
        after = (place - begin[:, None]).clamp(0, answers.tokens.shape[1] - 1)
        ids = answers.tokens.gather(1, after).where(answer, prompt).where(real, self.padding)
        inputs = batch.inputs | {"input_ids": ids, "attention_mask": real.long()}
        return replace(batch, inputs=inputs, target=batch.target | {ANSWER: answer}, size={}, tokens=real, clean=None)

    def _answers(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """``[B]`` int64 twice: where the last answer of each row begins, and where it ends."""
        assert batch.tokens is not None
        lengths = batch.tokens.sum(1)
        if ANSWER not in batch.target:
            return torch.minimum((lengths // 2).clamp(min=1), torch.full_like(lengths, self.prompt)), lengths
        begin, end = last_run(batch.target[ANSWER] & batch.tokens)
        return torch.minimum(begin, lengths), torch.minimum(end, lengths)


@contextmanager
def headless(model: nn.Module) -> Iterator[nn.Module]:
    """In the context, the model returns the input of its head; yields the head."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    path = next(name for name, module in model.named_modules() if module is head)
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    owner._modules[name] = nn.Identity()
    try:
        yield head
    finally:
        owner._modules[name] = head


@contextmanager
def louder(model: nn.Module, factor: float) -> Iterator[None]:
    """In the context, the head's output is multiplied by a factor."""
    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    handle = head.register_forward_hook(lambda module, given, output: factor * output)
    try:
        yield
    finally:
        handle.remove()
