"""Trains a student on its own texts by the policy gradient of the reverse KL of whole texts."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.generation import evaluating
from kdlab.loss.policy.minillm import (
    clipped_surrogate,
    importance_weight,
    later_rewards,
    sampling_log_probability,
    token_reward,
)
from kdlab.module.parts import TeacherParts
from kdlab.module.samples import Samples
from kdlab.module.student_texts import StudentTextRule
from kdlab.output import Output, at_least_float32
from kdlab.precision import exact
from kdlab.schedule.base import value_at
from kdlab.value import Positive

DRAWN = "drawn"  # of a batch's targets: [B, L], the log-probabilities with which the next tokens were drawn


@final
class MiniLLM(StudentTextRule):
    """``(1 - alpha) * labels on the data + alpha * (terms on the student's texts + what came of each token)``.

    The terms are the first part of the policy gradient, the loss of the next token: exactly that of the paper with
    ``loss=reverse_kl loss.temperature=1``. The second part rewards each token by what the teacher thinks of the tokens
    after it. Both are corrected for the student having changed since the texts were drawn, where
    ``module.samples.reuse`` is above 1.

    Args:
        samples: draws the student's answers, from all tokens.
        clip: > 0; a token's probability may change by this share before it is no longer pushed.
        reward_limit: > 0; rewards of a token are cut to ``[-reward_limit, reward_limit]``.
        most_weight: > 0; larger importance weights are cut to it.
        normalise: whether the rewards of the later tokens are their mean, so that length itself costs nothing; else
            their sum.

    Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2.2 and algorithm 1; the texts are drawn
        from a mixture with the teacher where ``module.samples.mix`` is above 0.
    """

    higher_is_better = StudentTextRule.higher_is_better | {"reward": True, "later": None}

    def __init__(
        self,
        parts: TeacherParts,
        seed: int,
        samples: Samples,
        clip: Positive = 0.2,
        reward_limit: Positive = 10.0,
        most_weight: Positive = 2.0,
        normalise: bool = True,
    ) -> None:
        super().__init__(parts, seed, samples)
        for name, value in (("clip", clip), ("reward_limit", reward_limit), ("most_weight", most_weight)):
            if not value > 0:
                raise UserError(f"module.{name} is {value}, but must be above 0")
        sampling = samples.sampling
        if sampling.greedy or sampling.top_p < 1 or sampling.top_k > 0:
            raise UserError(
                "module=minillm learns from texts that are drawn from all tokens, but module.samples limits them: set "
                "module.samples.temperature above 0, top_p=1 and top_k=0"
            )
        if parts.teacher.top_k is not None:
            raise UserError(
                f"module=minillm asks the teacher about each token that the student drew, but teacher.top_k="
                f"{parts.teacher.top_k} keeps the largest logits: set teacher.top_k=null"
            )
        self.clip = float(clip)
        self.reward_limit, self.most_weight, self.normalise = float(reward_limit), float(most_weight), normalise

    @classmethod
    def option(cls) -> str:
        return "minillm"

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        alpha = value_at(self.loss.alpha, self.progress)
        own = self.own(batch, batch_idx, self.with_drawn)
        student, teacher = self.read(own), self.teacher.read(self.task, own)
        later, weight, reward = self.later(student, teacher, own)
        total, parts = self.loss.step(
            self.task, replace(student, weight=weight), teacher, own, self.progress, labelled=False
        )
        total = total + alpha * later
        if alpha < 1:
            parts["supervised"] = supervised = self.task.supervised(self.read(batch), batch)
            total = total + (1 - alpha) * supervised
        self.log_values(self.described(own) | {"train/reward": reward, "train/later": later}, batch)
        return self.log_loss(total, {name: value.detach() for name, value in parts.items()}, batch)

    @torch.no_grad()
    def with_drawn(self, batch: Batch) -> Batch:
        """The batch with the log-probabilities with which its answers were drawn."""
        temperature, mix = self.samples.sampling.temperature, self.samples.mix
        with evaluating(self.model):
            found = chosen(self.read(batch), temperature)
        if mix:
            found = sampling_log_probability(found, chosen(self.teacher.read(self.task, batch), temperature), mix)
        return replace(batch, target=batch.target | {DRAWN: found})

    @exact()
    def later(self, student: Output, teacher: Output, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """What the tokens after each one are worth: its loss, the weight of each position, and the mean reward.

        Returns:
            A scalar; ``[B, L]``, without gradient; a scalar.
        """
        log_student, log_teacher = chosen(student), chosen(teacher)
        drawn = batch.target[DRAWN]
        reward = token_reward(log_student, log_teacher, self.reward_limit)
        advantage = later_rewards(reward, student.mask, self.normalise)
        weight = importance_weight(log_student, drawn, self.most_weight)
        surrogate = clipped_surrogate(log_student, drawn, advantage, self.clip)
        return student.mean(surrogate), weight, student.mean(reward)


def chosen(output: Output, temperature: float = 1.0) -> Tensor:
    """The log-probabilities ``[B, L]`` of the tokens that came next; 0 where a position does not count.

    Args:
        temperature: > 0, divides the logits.
    """
    assert output.label is not None
    log_p = (at_least_float32(output.logits) / temperature).log_softmax(-1)
    return log_p.gather(-1, output.label.clamp(min=0)[..., None])[..., 0].where(output.mask, 0)
