"""MiniLM: the last layer's self-attention distributions and value relations."""

from __future__ import annotations

from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.relation.tokens import log_relation, relation_divergence, sequences
from kdlab.loss.term import ModelSpec, Term
from kdlab.output import Output
from kdlab.schedule.base import Schedule


def attention_divergence(
    student: tuple[Tensor, Tensor, Tensor],
    teacher: tuple[Tensor, Tensor, Tensor],
    tokens: Tensor,
    heads: int,
    causal: bool = False,
) -> Tensor:
    """KL(teacher || student) of a layer's attention distributions plus that of its value relations, per token, in nats.

    Args:
        student, teacher: queries, keys and values, ``[B, L, D]`` and ``[B, L, E]``; half precision is computed in
            float32.
        tokens: ``[B, L]`` bool, the real tokens.
        heads: attention heads, as many in both.
        causal: whether attention is to earlier tokens only, as in decoders.

    Returns:
        ``[B, L]``, >= 0, averaged over heads; 0 where distributions and relations agree.

    Example:
        >>> import torch
        >>> layer = (torch.eye(2)[None],) * 3
        >>> attention_divergence(layer, layer, torch.tensor([[True, True]]), heads=1)
        tensor([[0., 0.]])

    Source: Wang et al. 2020 (MiniLM), arXiv:2002.10957, equations 8 to 11.
    """
    total = tokens.new_zeros(tokens.shape, dtype=student[0].dtype)
    for left, right in ((0, 1), (2, 2)):
        student_relation = log_relation(student[left], student[right], tokens, heads, causal)
        teacher_relation = log_relation(teacher[left], teacher[right], tokens, heads, causal)
        total = total + relation_divergence(student_relation, teacher_relation)
    return total


class MiniLM(Term):
    """The mean of :func:`attention_divergence` over the real tokens of a layer of each model.

    The attention distributions are computed from queries and keys, before dropout, so a cached teacher will do.

    Formula: ``KL(A_t || A_s) + KL(V_t || V_s)``, A the attention and ``V = softmax(v v' / sqrt(d))`` of a layer,
        averaged over heads.
    When: pretraining or fine-tuning a student of any depth and width, with as many heads.
    Cost: no parameters; H L^2 numbers a row on both sides; queries, keys and values of one layer of the teacher, 3 L D
        numbers a row.

    Args:
        weight: a number or a schedule.
        student, teacher: the layers, 0-based, negative ones from the top; the last in the paper.
        causal: whether attention is to earlier tokens only: true for decoders.
    """

    def __init__(
        self, weight: float | Schedule = 1.0, student: int = -1, teacher: int = -1, causal: bool = False
    ) -> None:
        super().__init__()
        self.weight = weight
        self.causal = causal
        self.taps = projections(student, teacher)
        self.heads = 0

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        if student.heads != teacher.heads or not student.heads:
            raise UserError(
                f"MiniLM compares attention head by head, but the student has {student.heads} heads and the teacher "
                f"{teacher.heads}: use the term minilmv2, which cuts both into as many relation heads."
            )
        self.heads = student.heads

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        read = [
            sequences(student, teacher, one, two)
            for one, two in zip(self.taps["student"], self.taps["teacher"], strict=True)
        ]
        student_taps, teacher_taps, tokens = zip(*read, strict=True)
        return student.mean(attention_divergence(student_taps, teacher_taps, tokens[0], self.heads, self.causal))


def projections(student: int, teacher: int) -> dict[str, tuple[str, ...]]:
    """The taps of queries, keys and values of a layer of each model.

    Raises:
        UserError: a layer that is no whole number.

    Example:
        >>> import torch
        >>> projections(-1, 5)["teacher"]
        ('query.5', 'key.5', 'value.5')
    """
    layers = {"student": student, "teacher": teacher}
    for role, layer in layers.items():
        if not isinstance(layer, int) or isinstance(layer, bool):
            raise UserError(f"{role} is {layer!r}, but must be the number of a layer, such as -1 for the last.")
    return {role: tuple(f"{kind}.{layer}" for kind in ("query", "key", "value")) for role, layer in layers.items()}
