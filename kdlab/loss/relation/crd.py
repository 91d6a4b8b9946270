"""Contrastive representation distillation: match the teacher's vector of a row, among its vectors of other rows."""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from kdlab.error import UserError
from kdlab.loss.relation.bank import Bank, draw_apart, gathered
from kdlab.loss.relation.rows import pool, unit
from kdlab.loss.term import ModelSpec, Term, pair, width
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, number, positive, value_at


def contrast(scores: Tensor, kept: Tensor, log_z: Tensor, count: int, rows: int) -> Tensor:
    """The negative log-likelihood of recognising the pair of one row among ``count`` pairs of different rows.

    Args:
        scores: ``[B, 1 + K]``, the similarities divided by the temperature: of the pair of one row, then of the others;
            half precision is computed in float32.
        kept: ``[B, K]`` bool, the others that count; where some do not, the mean is over those that do.
        log_z: ``[]``, the logarithm of the constant that normalises the exponentials of scores.
        count: N, negatives for one positive.
        rows: M, the rows of the data.

    Returns:
        ``[B]``, in nats, >= 0.

    Example:
        >>> contrast(torch.zeros(1, 2), torch.tensor([[True]]), torch.tensor(0.0), 1, 1)  # two coins: 2 log 2
        tensor([1.3863])

    Source: Tian, Krishnan, Isola 2020 (CRD), arXiv:1910.10699, equations 10, 18 and 19; log_z as in the authors' code.
    """
    odds = at_least_float32(scores) - log_z - log(count / rows)
    others = logsigmoid(-odds[:, 1:]).where(kept, 0).sum(-1) / kept.sum(-1).clamp(min=1)
    return -logsigmoid(odds[:, 0]) - count * others


class CRD(Term):
    """The mean of :func:`contrast`, of the student's rows with the teacher's, and the other way round.

    Both models' vectors go through linear layers, which learn, to unit vectors of one dimension. Other rows' are read
    from memory banks of all rows of the data (``2 * rows * dimension`` numbers in every checkpoint), which move towards
    a row's vectors after each training step that had it. Negatives are drawn from torch's random numbers among all
    other rows of the data, where labels are known of other classes only; a row without one may be a negative of any,
    and has any for its own. Those that no step has had yet count only where there are no others. It relates a row to
    others, and the banks change with each micro-batch, so accumulating over smaller ones is not the loss of the whole.

    Formula: ``-log h(s_i, t_i) - sum_n log(1 - h(s_i, t_n))`` and the same with sides changed, ``h = sigmoid(s . t / T
        - log Z - log(N / M))``.
    When: many rows, more than a few epochs, and other widths; small sets fill its memory too slowly.
    Cost: two linear maps of ``(D_s + D_t) d`` parameters; memory banks of 2 M d numbers in every checkpoint; B N d
        numbers read a step.

    Args:
        weight: a number or a schedule.
        temperature: > 0, a number or a schedule.
        negatives: N, how many for each row; 16384 in the paper, for 50,000 rows.
        dimension: of the unit vectors.
        momentum: share of the old vectors in the banks, in [0, 1).
        taps: ``{student: NAME, teacher: NAME}``, each ``[B, D]``, or ``[B, L, D]``, averaged over the real tokens.

    Raises:
        UserError: an argument out of its range.
    """

    row_wise = False

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 0.07,
        negatives: int = 1024,
        dimension: int = 128,
        momentum: float = 0.5,
        taps: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("negatives", negatives), ("dimension", dimension)):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name} is {value!r}, but must be a whole number above 0.")
        if not 0 <= number(momentum, "momentum") < 1:
            raise UserError(f"momentum is {momentum}, but must be in [0, 1): 0 keeps the newest vector only.")
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.negatives, self.dimension, self.momentum = negatives, dimension, momentum
        self.taps = pair(taps or {"student": "pooled", "teacher": "pooled"})

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        if rows < 2:
            raise UserError(f"CRD contrasts a row with others, but the data has {rows}: use another loss.")
        self.rows = rows
        self.student = nn.Linear(width(student, self.taps["student"][0], "student"), self.dimension)
        self.teacher = nn.Linear(width(teacher, self.taps["teacher"][0], "teacher"), self.dimension)
        self.student_bank = Bank(rows, self.dimension, self.momentum)
        self.teacher_bank = Bank(rows, self.dimension, self.momentum)
        self.label: Tensor
        self.register_buffer("label", torch.full((rows + 1,), -1))  # the classes of the rows that a step has had
        self.log_z: Tensor
        self.register_buffer("log_z", torch.full((2,), torch.nan))  # unknown until the first training step

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        row, mask = student.row, student.mask
        if row is None:
            raise UserError("CRD needs the rows' ids, which this data does not give: use another loss.")
        student_vector = embed(self.student, pool(student, self.taps["student"][0], "student"))
        teacher_vector = embed(self.teacher, pool(teacher, self.taps["teacher"][0], "teacher"))
        row = row.where(mask, 0)
        label, slot = classes_of(student), row.where(mask, self.rows)
        drawn, other = draw_apart(row, self.negatives, label, self.label.index_copy(0, slot, label)[:-1])
        index = torch.cat([row[:, None], drawn], 1)
        temperature = value_at(self.temperature, progress)
        total = student.logits.new_zeros(())
        known = []
        for anchor, bank, log_z in (
            (student_vector, self.teacher_bank, self.log_z[0]),
            (teacher_vector, self.student_bank, self.log_z[1]),
        ):
            vectors, seen = bank.read(index)
            scores = (vectors.to(anchor) @ anchor[:, :, None]).squeeze(-1) / temperature
            log_z = log_z.to(scores).where(~log_z.isnan(), log_mean_exp(scores.detach(), mask) + log(self.rows))
            had = seen[:, 1:] & other
            kept = had | (other & ~had.any(-1, keepdim=True))
            total = total + student.mean(contrast(scores, kept, log_z, self.negatives, self.rows))
            known.append(log_z)
        if self.training and torch.is_grad_enabled():
            self.log_z.copy_(torch.stack(known))
            self.label.index_copy_(0, gathered(slot), gathered(label))
            self.student_bank.write(row, student_vector, mask)
            self.teacher_bank.write(row, teacher_vector, mask)
        return total


def classes_of(output: Output) -> Tensor:
    """The class of each row ``[B]``; -1 where it has none, or several labels, or a number instead."""
    label = output.label
    if label is None or label.shape != output.mask.shape or label.is_floating_point():
        return torch.full_like(output.mask, -1, dtype=torch.long)
    return label.where(output.labelled, -1)


def embed(layer: nn.Linear, features: Tensor) -> Tensor:
    """Unit vectors ``[B, dimension]``."""
    return unit(layer(features))


def log_mean_exp(scores: Tensor, mask: Tensor) -> Tensor:
    """The logarithm of the mean of the exponentials of ``scores`` ``[B, K]`` over the rows in ``mask`` ``[B]``.

    Example:
        >>> log_mean_exp(torch.tensor([[1.0, 3.0]]).log(), torch.tensor([True]))  # log 2
        tensor(0.6931)
    """
    mask = mask | ~mask.any()
    scores = scores.masked_fill(~mask[:, None], -torch.inf)
    return scores.flatten().logsumexp(0) - (mask.sum().to(scores) * scores.shape[1]).log()
