"""Models for `kdlab doctor`: without weights, to look at; and untrained ones in the place of missing teachers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from kdlab.artifact import overlap, select
from kdlab.artifact.find import adopt, teacher_nodes, wanted
from kdlab.artifact.run import Run, read_done
from kdlab.artifact.trained import Trained, named
from kdlab.config import build, instantiate
from kdlab.config.job import Job
from kdlab.config.node import Node, as_plain, made
from kdlab.config.trust import Trust
from kdlab.datamodule.data import Data
from kdlab.datamodule.rows import sampled
from kdlab.doctor.model_summary import weightless
from kdlab.file import write_json
from kdlab.model.family.find import family
from kdlab.model.save import save

DEALT = ("seed", "batch_size", "tokens_per_batch", "eval_batch_size")  # how rows are dealt out, not which there are

LOUD = 10.0  # how much larger a stand-in's logits are than an untrained model's, which say nearly nothing
SAMPLE = 20_000  # rows that are tokenised


class UntrainedModels:
    """Data and models of jobs; each is made once.

    Args:
        folder: where untrained models are kept, as runs like those that would train them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, Any] = {}
        self.teachers: dict[Path, Path] = {}

    def bare(self, job: Job, task: Any, data: Data) -> Any:
        """The model of a job, on the meta device where it can be."""
        node = job.cfg.student if "student" in job.cfg else job.cfg.model
        teacher = None
        if build.needs_teacher(node) and "teacher" in job.cfg:
            if "teacher" in teacher_nodes(job.cfg.teacher):
                teacher, _ = self.bare_teacher(job, "teacher", job.cfg.teacher, task, data)
            elif "model" in job.cfg.teacher:
                teacher = _weightless(job.cfg.teacher.model, task, data)
        return _weightless(node, task, data, teacher)

    def bare_teacher(self, job: Job, place: str, node: Node, task: Any, data: Data) -> tuple[Any, str]:
        """A teacher's model, likewise, and what is known of its run."""
        found = self.wanted(job, place, node)
        if isinstance(found, Trained):
            shape = made({"_target_": "kdlab.model.hf.hf", "path": str(found.weights), "pretrained": True})
            plain = (found.weights / "config.json").exists()
            given = data if data.read_by(found.weights) is data else None
            model = _weightless(shape, task, given) if plain and given is not None else found.model
            return model, f"{found.id}, which is trained"
        model = self.bare(found, task, self.data(found))
        how = "measured and saved as it is" if found.cfg.trainer.get("max_steps") == 0 else "trained first"
        return model, f"{found.folder.name} is {how}, once; an untrained model of its config stands in for it here"

    def wanted(self, job: Job, place: str, node: Node) -> Trained | Job:
        """The trained model that a node names, or the job that has to train it."""
        found = wanted(job, place, node)
        if isinstance(found, Trained) or read_done(found.folder) is None:
            return found
        return Trained(found.folder, found.folder / "model", found.folder.name, Trust.of(found.cfg))

    def taught(self, job: Job, place: str, node: Node) -> Path:
        """Where a teacher lies: its own run, or one that was never trained."""
        found = self.wanted(job, place, node)
        if isinstance(found, Trained):
            return found.folder.absolute()
        if found.folder not in self.teachers:
            self.teachers[found.folder] = self._stand_in(found)
        return self.teachers[found.folder]

    def _stand_in(self, job: Job) -> Path:
        """A run directory like the job's, whose model has not learned anything."""
        data, teacher = self.data(job), None
        run = Run(self.folder / job.command / job.folder.name)
        run.folder.mkdir(parents=True, exist_ok=True)
        node = job.cfg.student if "student" in job.cfg else job.cfg.model
        if build.needs_teacher(node) and "teacher" in teacher_nodes(job.cfg.teacher):
            place = self.taught(job, "teacher", job.cfg.teacher)
            teacher = named(str(place), self.folder, Trust.of(job.cfg)).model
            write_json(run.folder / "teacher.json", {"id": place.name, "folder": str(place)})
        torch.manual_seed(job.cfg.seed)
        task = build.task(job.cfg, data)
        model = build.student(job.cfg, task, data, teacher) if "student" in job.cfg else build.model(node, task, data)
        if task.uses_labels and (head := family(model).head(model)) is not None:
            with torch.no_grad():
                head.weight.mul_(LOUD)
        run.begin(job.config, job.overrides)
        save(model, data.processor, run.folder / "model")
        if task.uses_labels:
            write_json(run.folder / "model" / "labels.json", list(data.labels))
        overlap.write(run.folder, data)
        run.finish(None, "", 0.0, {}, {})
        return run.folder

    def _labels(self, job: Job, place: str, node: Node) -> list[str] | None:
        found = self.wanted(job, place, node)
        return found.labels if isinstance(found, Trained) else list(self.data(found).labels)

    def data(self, job: Job) -> Any:
        """The data of a job, set up; what several jobs share is read once."""
        plain: dict[Any, Any] = as_plain(job.cfg.datamodule)
        drawn = any(plain.get(name) is not None for name in ("per_class", "budget", "select"))
        dealt = {name: plain.pop(name) for name in DEALT if name in plain and not drawn}
        key = json.dumps([build.asked(job.cfg), plain], sort_keys=True, default=str)
        if key not in self.known:
            with sampled(SAMPLE):
                self.known[key] = select.data(job.cfg)
            adopt(
                job, self.known[key], instantiate.make(job.cfg.task), lambda place, node: self._labels(job, place, node)
            )
        data = self.known[key]
        if any(getattr(data, name) != value for name, value in dealt.items()):
            data = copy.copy(data)
            for name, value in dealt.items():
                setattr(data, name, value)
        return data


def _weightless(node: Node, task: Any, data: Data, teacher: Any = None) -> Any:
    """The model on the meta device; pretrained weights are not read for it."""
    bare = node.copy()
    if "pretrained" in bare:
        bare.pretrained = False
    return weightless(
        lambda: build.model(bare, task, data, teacher=teacher), lambda: build.model(node, task, data, teacher=teacher)
    )
