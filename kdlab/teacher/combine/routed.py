"""One teacher for each row."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from kdlab.teacher.combine.base import Combine, confidence


@final
class Routed(Combine):
    """Each row is taught by its most confident member; a training row with a label by the most confident that is right.

    Where no member is right, the teacher is the one that gives the label the highest probability. Labels of rows that
    do not train are never read.
    """

    def weights(self, log_p: Tensor, state: Tensor) -> Tensor:
        known = (state >= 0).all(-1)
        truth = state.clamp(min=0)[None, ..., None].expand(*log_p.shape[:-1], 1)
        given = log_p.gather(-1, truth).squeeze(-1).exp().mean(-1)  # [M, B], of the label
        right = (log_p.argmax(-1) == state).all(-1)
        trusted = torch.where(right, 1 + confidence(log_p), given)
        score = torch.where(known, trusted, confidence(log_p))
        return torch.nn.functional.one_hot(score.argmax(0), len(log_p)).T.to(log_p)
