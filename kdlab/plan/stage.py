"""The weights that a run starts from: those of the stage before it, or of the run that ``start`` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdlab.artifact.assemble import match_labels
from kdlab.artifact.run import read_done
from kdlab.artifact.trained import Trained, named
from kdlab.config.job import Job
from kdlab.config.stage import earlier
from kdlab.config.trust import Trust
from kdlab.datamodule.data import Data
from kdlab.error import UserError


def begin(job: Job, student: nn.Module, data: Data, run: Callable[[Job], Any]) -> Trained | None:
    """Load the weights that the run starts from into the model that learns; returns the model that has them, if any.

    Args:
        run: carries out a stage that is not done.

    Raises:
        UserError: they are those of another model.
    """
    cfg = job.cfg
    with torch.random.fork_rng(devices=[]):  # found or trained, a stage leaves the others' first weights alone
        stages = earlier(job)
        for one in stages:
            if read_done(one.folder) is None:
                run(one)
    start = stages[-1].folder.name if stages else cfg.start
    if start is None:
        return None
    found = named(str(start), Path(cfg.outputs), Trust.of(cfg), "start")
    remedy = "start from a run with the same student and data, or drop start"
    if found.labels is not None and sorted(found.labels) == sorted(data.labels):
        match_labels(found, data.labels)
    if found.labels not in (None, list(data.labels)):
        raise UserError(f"start={found.id} has the labels {found.labels}, the data has {list(data.labels)}: {remedy}")
    if data.read_by(found.weights) is not data:
        raise UserError(f"start={found.id} has another tokenizer than the student: {remedy}")
    try:
        student.load_state_dict(found.model.state_dict())
    except RuntimeError as problem:
        reason = " ".join(str(problem).split())[:200]
        raise UserError(f"start={found.id} is another model than the student ({reason}): {remedy}") from problem
    return found
