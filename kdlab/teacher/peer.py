"""Models that learn together with the student and are its teachers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.outcome import Outcome
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher
from kdlab.teacher.combine.base import mixed
from kdlab.teacher.combine.mean import Mean


@final
class Peer(Teacher):
    """The mean of the peers' probabilities. The training rule, ``module=mutual``, trains the peers.

    Args:
        peers: fresh models by name, one or more.
        taps: the tap names that the objective reads; peers offer none.
        store: not used, since their outputs change.
    """

    learns = True
    needs_classes = True

    def __init__(self, peers: Mapping[str, nn.Module], taps: Collection[str], store: Path) -> None:
        if not peers:
            raise UserError("teacher=peer has no peers: add one with +model@teacher.peers.NAME=OPTION")
        self.peers = dict(peers)

    @classmethod
    def accept(cls, taps: Collection[str]) -> None:
        if taps:
            raise UserError(
                f"teacher=peer does not offer '{min(taps)}': peers learn from each other's logits; leave this term out"
            )

    @property
    def models(self) -> Mapping[str, nn.Module]:
        return self.peers

    @torch.no_grad()
    def read(self, task: Task, batch: Batch) -> Output:
        read = [task.read(model.to(batch.device), batch.original) for model in self.peers.values()]
        return average(read, task.outcome)

    def widths(self) -> Mapping[str, int]:
        return {}


def average(outputs: Sequence[Output], outcome: Outcome) -> Output:
    """One output with the logits of the mean of probabilities, detached and without taps."""
    log_p = outcome.log_probabilities(torch.stack([one.logits.detach() for one in outputs]))
    weights = Mean().weights(log_p, log_p.new_full(log_p.shape[1:-1], -1))
    return replace(outputs[0], logits=outcome.logits(mixed(log_p, weights)), taps={})
