"""What all runs of a command line take: time, memory and disk, from a few measured steps of one of them."""

from __future__ import annotations

import copy
import itertools
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdlab.artifact.chain import asks_a_teacher
from kdlab.artifact.find import teacher_nodes
from kdlab.artifact.trained import Trained, named
from kdlab.batch import Batch
from kdlab.config.job import Job
from kdlab.config.node import as_plain
from kdlab.config.trust import Trust
from kdlab.datamodule.data import Data
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.doctor import cost
from kdlab.doctor.table import Page, free, size
from kdlab.doctor.trial import Trials, trainer
from kdlab.doctor.untrained import UntrainedModels
from kdlab.module.base import TrainingRule
from kdlab.plan.length import epochs
from kdlab.precision import computing


class Estimate:
    """Adds up what runs take.

    Args:
        models: the data, and models that stand in for teachers.
        trials: makes the learner that is measured.
        folder: where models and a small store are kept meanwhile.
    """

    def __init__(self, models: UntrainedModels, trials: Trials, folder: Path) -> None:
        self.models, self.trials, self.folder = models, trials, folder

    def problems(self, job: Job, page: Page, left: int) -> list[str]:
        """Measure some whole steps of a job, print what all jobs take, and return what there is no room for.

        Args:
            left: number of jobs that are not done.
        """
        data = self.models.data(job)
        plain: Any = as_plain(job.cfg.trainer)
        plain["max_epochs"] = epochs(job.cfg.trainer, data)
        batches = len(data.train_dataloader()) * job.cfg.trainer.accumulate_grad_batches
        steps = cost.planned(batches, plain)
        part = copy.copy(data)  # rows for a few whole steps
        dealt = [batch.row.numpy() for batch in itertools.islice(data.train_dataloader(), cost.MOST)]
        part.splits = {"train": np.concatenate(dealt), "val": data.splits["val"][: data.eval_batch_size]}
        part.splits["test"] = part.splits["val"]
        root = self.folder / "cost"
        prepared = self.trials.prepared(job, part, root)
        store = cost.stored(root / "store", data.lengths, data.splits["train"], plain["max_epochs"] or 0)
        asked = 0 if store else sum(_bytes(trained.model) for trained in prepared.teachers.values())
        with computing(job.cfg.trainer.precision):
            measured = cost.measure(
                prepared.learner, prepared.data or part, partial(trainer, job), asked, steps, data.tokens_per_step
            )
        page.adapters(_adapters(prepared.learner))
        count = cost.validations(batches, plain, steps)
        validated = count * _tokens(data, "val") + _tokens(data, "test")
        parts = {"student" if "student" in job.cfg else "model": steps * measured.step + validated * measured.token}
        parts |= {"generated texts": spent} if (spent := cost.generating(prepared.learner, count)) else {}
        batch = next(iter(part.train_dataloader()))
        with computing(job.cfg.trainer.precision):
            once = self.once(job, measured, data, batch, bool(store))
        threads = job.cfg.cluster.threads or torch.get_num_threads()
        parts, once = ({name: cost.wall(value, threads) for name, value in some.items()} for some in (parts, once))
        page.cost(measured, once, parts, steps, cost.wall(measured.step, threads), threads, left, store)
        room, memory = free(Path(job.cfg.outputs)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        here = job.cfg.trainer.get("accelerator") == "cpu"
        return [
            f"training takes about {size(measured.bytes)} of memory, and this machine has {size(memory)}: lower "
            "datamodule.batch_size, tokens_per_batch or max_length, or raise trainer.accumulate_grad_batches"
        ] * (here and measured.bytes > memory) + [
            f"the teacher's answers take {size(store)}, but {Path(job.cfg.outputs).absolute()} has {size(room)} left: "
            "set outputs to a larger disk, or use teacher=live"
        ] * (store > room)

    def once(self, job: Job, measured: cost.Cost, data: Data, batch: Batch, stored: bool) -> dict[str, float]:
        """Seconds of one thread for what all runs need once: teachers that are trained first, and the teacher's pass.

        Args:
            measured: of the learner of ``job``.
            batch: of the data, on which the teachers are timed.
            stored: whether the teacher's answers are stored.
        """
        training, passing = 0.0, 0.0
        own = measured.memory["weights"]
        waiting = list(teacher_nodes(job.cfg.teacher).items()) if asks_a_teacher(job) else []
        jobs, seen = [job] * len(waiting), set()
        while waiting:
            (place, node), asker = waiting.pop(), jobs.pop()
            found, folder = self.models.wanted(asker, place, node), self.models.taught(asker, place, node)
            trained = named(str(folder), self.folder, Trust.of(asker.cfg))
            view = data.read_by(trained.weights)
            token = cost.reading(trained.model, view.again(batch) if isinstance(view, RetokenizedRows) else batch)
            passing += token * _tokens(data) if stored and asker is job else 0.0
            if isinstance(found, Trained) or found.folder in seen:
                continue
            seen.add(found.folder)
            teacher_data = self.models.data(found)
            plain: Any = as_plain(found.cfg.trainer)
            plain["max_epochs"] = epochs(found.cfg.trainer, teacher_data)
            micro = len(teacher_data.train_dataloader()) * found.cfg.trainer.accumulate_grad_batches
            steps = cost.planned(micro, plain)
            tokens, ratio = cost.tokens_per_step(teacher_data), _bytes(trained.model) / own
            student_tokens = cost.tokens_per_step(data)
            step = cost.unmeasured(measured.step, measured.token, token, student_tokens, tokens, ratio)
            validated = cost.validations(micro, plain, steps) * _tokens(teacher_data, "val") + _tokens(
                teacher_data, "test"
            )
            training += steps * step + validated * token
            if asks_a_teacher(found):
                inner = list(teacher_nodes(found.cfg.teacher).items())
                waiting, jobs = waiting + inner, jobs + [found] * len(inner)
        parts = {"teacher training": training, "teacher pass": passing}
        return {name: seconds for name, seconds in parts.items() if seconds}


def _tokens(data: Data, *splits: str) -> int:
    """Tokens of some splits, or of all rows that are used."""
    rows = np.concatenate([data.splits[name] for name in splits]) if splits else data.used
    return int(data.lengths[rows].sum())


def _adapters(learner: TrainingRule) -> list[str]:
    """What learns beside the model."""
    own = {id(one) for one in learner.model.parameters()}
    found = [(name, one) for name, one in learner.named_parameters() if id(one) not in own and one.requires_grad]
    return [f"{name} {' x '.join(map(str, one.shape))}" for name, one in found]


def _bytes(model: nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in model.parameters())
