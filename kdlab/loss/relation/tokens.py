"""The functions of losses that relate the tokens or the channels within a row."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from kdlab.error import UserError
from kdlab.loss.place import alike
from kdlab.loss.term import read
from kdlab.output import Output, at_least_float32
from kdlab.precision import exact


def sequence(output: Output, name: str, role: str) -> Tensor:
    """The tap ``name`` with a vector a token, or a place of a map, ``[B, L, D]``, as it was computed.

    Raises:
        UserError: the tap has another shape.
    """
    value = read(output, name, role)
    if value.ndim == 3 and (output.tokens is None or value.shape[:2] == output.tokens.shape):
        return value
    raise UserError(
        f"A relation term reads the {role}'s tap '{name}' {tuple(value.shape)}, but needs a vector for each of the "
        f"tokens: set its taps.{role} to taps such as hidden.-1."
    )


def sequences(student: Output, teacher: Output, student_name: str, teacher_name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Two taps of the same tokens, ``[B, L, D]`` and ``[B, L, E]``, and which tokens are real, ``[B, L]``.

    Raises:
        UserError: a tap of another shape, or other tokens.
    """
    student_tap, teacher_tap = sequence(student, student_name, "student"), sequence(teacher, teacher_name, "teacher")
    student_tap, teacher_tap = alike(student_tap, teacher_tap, student)
    if student_tap.shape[:2] != teacher_tap.shape[:2]:
        raise UserError(
            f"A relation term compares the student's tap '{student_name}' {tuple(student_tap.shape)} with the "
            f"teacher's '{teacher_name}' {tuple(teacher_tap.shape)} token by token: use a teacher with the same "
            "tokenizer, or a term that reads pooled."
        )
    if student.tokens is None:
        return student_tap, teacher_tap, torch.ones(student_tap.shape[:2], dtype=torch.bool, device=student_tap.device)
    return student_tap, teacher_tap, student.tokens


@exact()
def log_relation(query: Tensor, key: Tensor, tokens: Tensor, heads: int, causal: bool = False) -> Tensor:
    """The logarithm of scaled dot-product relations: what self-attention turns queries and keys into.

    Args:
        query, key: ``[B, L, D]``, all heads side by side; half precision is computed in float32.
        tokens: ``[B, L]`` bool, the real tokens; no other is related to.
        heads: into how many parts of equal width the vectors are cut; divides D.
        causal: whether a token is related to none after it.

    Returns:
        ``[B, heads, L, L]``; the exponentials over the real tokens of the last dimension sum to 1, and what is not
        related to is minus infinity.

    Example:
        >>> states = torch.zeros(1, 2, 2)
        >>> log_relation(states, states, torch.tensor([[True, True]]), heads=1, causal=True).exp().tolist()
        [[[[1.0, 0.0], [0.5, 0.5]]]]
    """
    q, k = (
        at_least_float32(x).where(tokens[..., None], 0).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key)
    )
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return log_softmax(scores.masked_fill(~related(tokens, causal), -torch.inf), -1)


def related(tokens: Tensor, causal: bool) -> Tensor:
    """The pairs of tokens that relate to each other: ``[B, 1, L, L]`` bool; each token does to itself, padding too.

    Example:
        >>> related(torch.tensor([[True, True]]), causal=True).int().tolist()
        [[[[1, 0], [1, 1]]]]
    """
    length = tokens.shape[-1]
    every = torch.ones(length, length, dtype=torch.bool, device=tokens.device)
    allowed = tokens[:, None, None, :] & (every.tril() if causal else every)
    return allowed | torch.eye(length, dtype=torch.bool, device=tokens.device)


def relation_divergence(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """KL(teacher || student) of relations, averaged over heads, in nats.

    Args:
        log_student, log_teacher: ``[B, H, L, L]`` of :func:`log_relation`, for the same tokens.

    Returns:
        ``[B, L]``, >= 0, and 0 where the relations agree.

    Example:
        >>> student, teacher = torch.tensor([[[[0.5, 0.5]]]]).log(), torch.tensor([[[[1.0, 0.0]]]]).log()
        >>> relation_divergence(student, teacher)  # log 2
        tensor([[0.6931]])
    """
    known = log_teacher > -torch.inf
    difference = log_teacher.where(known, 0) - log_student.where(known, 0)
    return (log_teacher.exp() * difference).sum(-1).mean(1)
