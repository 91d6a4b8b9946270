"""The class that a method which reads labels takes for the right one: the label, or else the teacher's choice."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kdlab.error import UserError
from kdlab.loss.logit.divergence import log_total
from kdlab.output import Output, at_least_float32


def label(student: Output) -> Tensor:
    """Class numbers ``[...]``; 0 where a row has no label, as ``student.labelled`` shows.

    Raises:
        UserError: the data has no labels at all.
    """
    if student.label is None:
        raise UserError(
            "A loss term reads the labels, but the data has none: leave the term out, or use labelled data."
        )
    return student.label.where(student.labelled, 0)


def target(student: Output, teacher: Output) -> Tensor:
    """Class numbers ``[...]``: the label, and where there is none the teacher's most likely class."""
    likely = teacher.logits.argmax(-1)
    return likely if student.label is None else student.label.where(student.labelled, likely)


def targets(student: Output, teacher: Output) -> Tensor:
    """``[..., C]`` bool for multi-label tasks: the labels, and where there are none what the teacher finds likely."""
    likely = teacher.logits > 0
    return likely if student.label is None else (student.label > 0).where(student.labelled[..., None], likely)


def apart(logits: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """A distribution split into the target class against all others, and the others among themselves.

    Args:
        logits: ``[..., C]`` with C >= 2; half precision is computed in float32.
        target: class numbers ``[...]``.

    Returns:
        The log-odds of the target ``[...]``, and the log-probabilities of the others given that it is none of the
        target ``[..., C]``, where the target's own place is -inf.

    Example:
        >>> odds, others = apart(torch.tensor([0.5, 0.25, 0.25]).log(), torch.tensor(0), 1.0)
        >>> odds, others.exp()
        (tensor(0.), tensor([0.0000, 0.5000, 0.5000]))
    """
    scores = at_least_float32(logits) / temperature
    chosen = one_hot(target, logits.shape[-1]).bool()
    others = scores.masked_fill(chosen, -torch.inf)
    total = log_total(others)
    odds = (scores - total).masked_fill(~chosen, 0).sum(-1)
    return odds, (others - total).where(others > -torch.inf, -torch.inf)
