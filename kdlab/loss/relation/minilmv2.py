"""MiniLMv2: relations among queries, among keys and among values, cut into any number of relation heads."""

from __future__ import annotations

from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.relation.minilm import projections
from kdlab.loss.relation.tokens import log_relation, relation_divergence, sequences
from kdlab.loss.term import ModelSpec, Term, width
from kdlab.output import Output
from kdlab.schedule.base import Schedule


def self_relation_divergence(
    student: Tensor, teacher: Tensor, tokens: Tensor, heads: int, causal: bool = False
) -> Tensor:
    """KL(teacher || student) of the relations that a layer's queries (keys, values) have among themselves, in nats.

    Args:
        student, teacher: ``[B, L, D]`` and ``[B, L, E]``; half precision is computed in float32.
        tokens: ``[B, L]`` bool, the real tokens.
        heads: relation heads; divides D and E.
        causal: whether a token relates to earlier ones only.

    Returns:
        ``[B, L]``, >= 0, averaged over heads; 0 where the relations agree. Free of a rotation of any head.

    Example:
        >>> import torch
        >>> states = torch.eye(2)[None]
        >>> self_relation_divergence(states, -states, torch.tensor([[True, True]]), heads=1)  # a rotation
        tensor([[0., 0.]])

    Source: Wang et al. 2021 (MiniLMv2), arXiv:2012.15828, equations 4 to 6.
    """
    student_relation, teacher_relation = (
        log_relation(states, states, tokens, heads, causal) for states in (student, teacher)
    )
    return relation_divergence(student_relation, teacher_relation)


class MiniLMv2(Term):
    """The weighted sum over queries, keys and values of the mean of :func:`self_relation_divergence`.

    Formula: ``sum over q, k, v of KL(R_t || R_s)``, ``R = softmax(x x' / sqrt(d))`` in any number of relation heads.
    When: as minilm, where the numbers of heads differ.
    Cost: no parameters; 3 H L^2 numbers a row on both sides; queries, keys and values of one layer of the teacher, 3 L
        D numbers a row.

    Args:
        weight: a number or a schedule.
        heads: relation heads; must divide both models' widths. None: the teacher's attention heads.
        query, key, value: the weights of the three relations, >= 0.
        student, teacher: the layers, 0-based, negative ones from the top. The paper takes a large teacher's upper
            middle and a base-size teacher's last.
        causal: whether a token relates to earlier ones only: true for decoders.

    Raises:
        UserError: a weight below 0, or all 0, or no whole number of heads.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        heads: int | None = None,
        query: float = 1.0,
        key: float = 1.0,
        value: float = 1.0,
        student: int = -1,
        teacher: int = -1,
        causal: bool = False,
    ) -> None:
        super().__init__()
        shares = {"query": query, "key": key, "value": value}
        if not all(share >= 0 for share in shares.values()) or not 0 < sum(shares.values()) < float("inf"):
            raise UserError(f"The weights of the relations are {shares}, but must be from 0 up, and one above 0.")
        if heads is not None and (not isinstance(heads, int) or heads < 1):
            raise UserError(f"heads is {heads!r}, but must be a whole number above 0, or null for the teacher's own.")
        self.weight, self.causal = weight, causal
        self.shares = tuple(share for share in shares.values() if share)
        wanted = [share > 0 for share in shares.values()]
        self.taps = {
            role: tuple(name for name, want in zip(names, wanted, strict=True) if want)
            for role, names in projections(student, teacher).items()
        }
        self.heads = heads or 0

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        self.heads = self.heads or teacher.heads
        widths = {
            role: width(model, self.taps[role][0], role) for role, model in (("student", student), ("teacher", teacher))
        }
        if not self.heads or any(size % self.heads for size in widths.values()):
            fitting = [n for n in range(1, min(widths.values()) + 1) if not any(size % n for size in widths.values())]
            raise UserError(
                f"minilmv2 cannot cut the student's width {widths['student']} and the teacher's {widths['teacher']} "
                f"into {self.heads} relation heads: set its heads to one of {', '.join(map(str, fitting))}."
            )

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        total = student.logits.new_zeros(())
        for *names, share in zip(self.taps["student"], self.taps["teacher"], self.shares, strict=True):
            student_tap, teacher_tap, tokens = sequences(student, teacher, *names)
            total = total + share * student.mean(
                self_relation_divergence(student_tap, teacher_tap, tokens, self.heads, self.causal)
            )
        return total
