"""The student's own answers to the prompts of a batch, as training rules ask for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.generation import Sampling
from kdlab.task.generative import GenerativeTask, least_room
from kdlab.task.mixture import Mixture
from kdlab.value import Count, NonNegative, Part, Share, Whole


@final
class Samples:
    """Batches whose answers the model wrote.

    What is drawn depends on torch's generator, which a rule seeds in each step, so that a resumed run draws the same.

    Args:
        max_new_tokens, temperature, top_p, top_k: as for :class:`kdlab.generation.Sampling`. The temperature is that of
            the distribution that is drawn from; terms have another one, ``loss.temperature``.
        num_generations: answers to each prompt.
        mix: share of the teacher in the distribution that is drawn from, in [0, 1); 0: the student's alone.
        reuse: optimizer steps that learn from the same answers: the first draws them, the others take them in place of
            rows of their own.

    Example: no answer is drawn again within two steps:
        >>> samples = Samples(reuse=2)
        >>> [samples.window(step) for step in range(5)]
        [0, 0, 1, 1, 2]
    """

    def __init__(
        self,
        max_new_tokens: Count = 64,
        temperature: NonNegative = 1.0,
        top_p: Part = 1.0,
        top_k: Whole = 0,
        num_generations: Count = 1,
        reuse: Count = 1,
        mix: Share = 0.0,
    ) -> None:
        self.sampling = Sampling(max_new_tokens, temperature, top_p, top_k)
        if num_generations > 1 and self.sampling.greedy:
            raise UserError(
                f"module.samples.num_generations={num_generations} answers to a prompt are all the same where the "
                "likeliest token is taken: set module.samples.temperature above 0, or num_generations=1"
            )
        if not 0 <= mix < 1:
            raise UserError(
                f"module.samples.mix is {mix}, but must be in [0, 1): 0 is the student alone, 0.2 is common"
            )
        if mix and self.sampling.greedy:
            raise UserError(
                f"module.samples.mix={mix} is about what is drawn, and at module.samples.temperature=0 nothing is: set "
                "one of them"
            )
        self.num_generations, self.reuse, self.mix = num_generations, reuse, mix
        self._kept: dict[int, Kept] = {}  # by number of the micro-batch in its step

    def check(self, task: GenerativeTask, data: Data, model: nn.Module) -> None:
        """Refuse training prompts that leave the model no room for an answer, before anything is trained.

        Raises:
            UserError: such a prompt.
        """
        new = self.sampling.max_new_tokens
        if self.mix and task.kind != "causal_lm":
            raise UserError(
                f"module.samples.mix={self.mix} draws from student and teacher together, which models of "
                f"task={task.option()} cannot do: set module.samples.mix=0"
            )
        if (room := least_room(task, data.encoded_rows(), data.splits["train"], model, new)) < new:
            raise UserError(
                f"module.samples.max_new_tokens={new} is more than the {max(room, 0)} positions that "
                f"{type(model).__name__} has left after the longest training prompt: set it to "
                + (f"{room} or less, or" if room > 0 else "less, and")
                + " set a smaller datamodule.max_length"
            )

    def window(self, step: int) -> int:
        """The number of the run of steps that learn from the same answers."""
        return step // self.reuse

    def of(
        self, task: GenerativeTask, model: nn.Module, batch: Batch, step: int, micro: int = 0,
        then: Callable[[Batch], Batch] = lambda made: made, teacher: nn.Module | None = None,
    ) -> Batch:  # fmt: skip
        """The prompts of a batch with the model's answers, or what this micro-batch of an earlier step had.

        It is no part of a step: means over it divide by its own number of tokens.

        Args:
            step: number of the optimizer step.
            micro: number of the micro-batch in the step.
            then: changes answers that were drawn, before they are kept.
            teacher: has the share ``mix`` in what is drawn.
        """
        window = self.window(step)
        found = self._kept.get(micro)
        if found is not None and found.window == window:
            return found.batch.to(batch.device)
        prompts = batch.original
        if self.num_generations > 1:
            every = torch.arange(len(prompts), device=prompts.row.device)
            prompts = prompts.rows(every.repeat_interleave(self.num_generations))
        mixture = Mixture(teacher, self.mix) if self.mix and teacher is not None else None
        made = then(task.with_answers(prompts, task.generate(model, prompts, self.sampling, mixture)))
        if self.reuse > 1:
            self._kept[micro] = Kept(window, made)
        return made

    def state(self) -> list[dict[str, Any]]:
        """The answers that later steps learn from, as plain values and tensors."""
        return [{"micro": micro, **kept.state()} for micro, kept in sorted(self._kept.items())]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Restore what :meth:`state` returned."""
        self._kept = {one["micro"]: Kept.of(one) for one in state}


@dataclass(frozen=True)
class Kept:
    """A batch that several steps learn from.

    Attributes:
        window: the number of the run of these steps.
        batch: with the answers.
    """

    window: int
    batch: Batch

    def state(self) -> dict[str, Any]:
        """As plain values and tensors."""
        batch = self.batch.to("cpu")
        parts = {"row": batch.row, "inputs": dict(batch.inputs), "target": dict(batch.target), "tokens": batch.tokens}
        return {"window": self.window, **parts}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Kept:
        """What :meth:`state` returned, again."""
        return cls(state["window"], Batch(**{name: state[name] for name in ("row", "inputs", "target", "tokens")}))
