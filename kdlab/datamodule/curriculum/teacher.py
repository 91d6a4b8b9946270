"""Rows that are easy for a trained model first."""

from __future__ import annotations

from typing import final

import numpy as np

from kdlab.datamodule.corpus import labelled
from kdlab.datamodule.curriculum.base import Curriculum
from kdlab.error import UserError

MEASURES = ("entropy", "loss")


@final
class Teacher(Curriculum):
    """Difficulty is the entropy of a model's prediction for a row, or its loss against the row's label.

    Args:
        by: ``entropy``, in nats; or ``loss``: the cross-entropy with the label, and the entropy where there is none.
        run: the model that ranks the rows: a run id, a run directory or a model directory; None: the teacher of the
        distillation. start, until, power: see :class:`Curriculum`.

    Source: Bengio et al. 2009, Curriculum learning, ICML; difficulty by a trained model: Hacohen, Weinshall 2019,
        arXiv:1904.03626, section 2 (transfer scoring).
    """

    def __init__(
        self, by: str = "entropy", run: str | None = None, start: float = 0.1, until: float = 0.5, power: float = 2.0
    ) -> None:
        super().__init__(start, until, power)
        if by not in MEASURES:
            raise UserError(f"datamodule.curriculum.by is '{by}', but must be one of {', '.join(MEASURES)}")
        self.by, self.runs, self.asks_teacher = by, (() if run is None else (str(run),)), run is None
        self.known: np.ndarray | None = None

    def grade(self, logits: np.ndarray, codes: np.ndarray, rows: np.ndarray, count: int) -> None:
        self.known = np.full(count, np.inf)
        self.known[rows] = hardness(logits, codes, self.by)

    def difficulty(self, lengths: np.ndarray) -> np.ndarray:
        if self.known is None:
            raise UserError(
                "datamodule/curriculum=teacher asks the teacher of a distillation, and this run has none that it asks: "
                "name a trained model with datamodule.curriculum.run=RUN, or choose datamodule/curriculum=length"
            )
        return self.known


def hardness(logits: np.ndarray, codes: np.ndarray, by: str) -> np.ndarray:
    """``[M]`` in nats, from logits ``[M, C]`` and labels ``[M]``; or labels ``[M, C]``: then the mean over these."""
    wide = logits.astype(np.float64)
    several = codes.ndim == 2
    if several:
        yes, no = -np.logaddexp(0, -wide), -np.logaddexp(0, wide)
        entropy = -(np.exp(yes) * yes + np.exp(no) * no).mean(-1)
        loss = -np.where(codes > 0, yes, no).mean(-1)
    else:
        log_p = wide - np.logaddexp.reduce(wide, -1, keepdims=True)
        entropy = -(np.exp(log_p) * log_p).sum(-1)
        loss = -np.take_along_axis(log_p, np.maximum(codes, 0)[:, None], -1)[:, 0]
    return np.asarray(np.where(labelled(codes), loss, entropy) if by == "loss" else entropy)
