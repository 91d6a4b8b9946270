"""The probes of `kdlab doctor` that need data and models: what fits together, what each key does, what it takes."""

from __future__ import annotations

import copy
import itertools
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import nn

from kdlab.artifact.chain import asks_a_teacher
from kdlab.artifact.find import teacher_nodes
from kdlab.artifact.run import read_done
from kdlab.artifact.trained import Trained, named
from kdlab.batch import Batch
from kdlab.config import build, instantiate
from kdlab.config.job import Job
from kdlab.config.node import Node, as_plain
from kdlab.config.point import Point, folders, outline
from kdlab.config.stage import earlier
from kdlab.config.trust import Trust
from kdlab.datamodule.data import Data
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.doctor import cost, language
from kdlab.doctor.dry_run import ROWS, Trace, data_trace, dry_run, few, rows_trace, written
from kdlab.doctor.model_summary import model_summary, trainable
from kdlab.doctor.swept_key import vary
from kdlab.doctor.table import Page, free, size
from kdlab.doctor.untrained import UntrainedModels
from kdlab.error import UserError
from kdlab.module.base import TrainingRule
from kdlab.plan import distill
from kdlab.plan.base import Plan, planner
from kdlab.plan.jumps import jumps
from kdlab.plan.length import epochs
from kdlab.precision import computing

ALONE = {  # of the trainer: where and with what is watched, and what a trial sets itself
    "accelerator": "cpu", "devices": 1, "strategy": "auto", "logger": False, "enable_progress_bar": False,
    "enable_model_summary": False, "enable_checkpointing": False, "limit_train_batches": 1.0, "limit_val_batches": 0,
    "limit_test_batches": 0, "num_sanity_val_steps": 0, "val_check_interval": 1.0, "check_val_every_n_epoch": 1,
    "log_every_n_steps": 1, "profiler": None, "overfit_batches": 0.0, "fast_dev_run": False, "num_nodes": 1,
}  # fmt: skip
LENGTH = ("max_epochs", "max_steps", "limit_train_batches", "accumulate_grad_batches", "_target_")
LONGEST = 15.0  # seconds for the first steps of points that differ from all others in more than numbers
LARGEST = 2**31  # parameters of student and teacher together beyond which no batch is run


class Examination:
    """Looks at the points of a command line; nothing is left behind but what caches keep of data.

    Args:
        swept: the keys that differ, each with its words.
        folder: where untrained teachers and small stores are kept meanwhile.
        page: what is found is printed there.
        tell: says what is being done.
        jobs: how many there are, with those that are no points; None: as many as points.
    """

    def __init__(
        self,
        swept: Mapping[str, list[str]],
        points: list[Point],
        folder: Path,
        page: Page,
        progress: Callable[[str], None],
        jobs: int | None = None,
    ) -> None:
        runs = len(folders(points))
        self.beyond = 0 if jobs is None or len(points) >= jobs else jobs - runs
        self.swept, self.points, self.folder, self.page, self.progress = swept, points, folder, page, progress
        self.by_words = {json.dumps(point.swept, sort_keys=True): point for point in points}
        self.models = UntrainedModels(folder)
        self.traces: dict[Path, Trace | None] = {}
        self.teaching: dict[str, distill.Teaching] = {}
        self.wrong: dict[str, Point] = {}
        self.odd: set[str] = set()

    def carry_out(self, seconds: float) -> list[str]:
        """All probes; returns what is wrong, one sentence each.

        Args:
            seconds: how long keys that do something may be turned again.
        """
        taught = (point for point in self.points if asks_a_teacher(_job(point)))
        first = next(taught, self.points[0])
        self.progress("reading the data and the models")
        try:
            parameters = self._shape(first)
        except UserError as problem:
            return [str(problem)]
        if parameters > LARGEST:
            self.page.note(f"no batch was tried: {parameters / 1e9:.1f} billion parameters would take too long here")
            return []
        keys = vary(self.swept, self._by_words, seconds, outline)
        if not self.swept:
            self._trace(first)
        self._others()
        self._notices()
        for note in jumps(self.points):
            self.page.note(note)
        self.page.keys(keys)
        full = self._cost(first) if self.traces[_job(first).folder] is not None else []
        problems = self._unread() + full
        problems += [f"{_where(point, len(self.points))}{problem}" for problem, point in self.wrong.items()]
        return problems + [
            f"{key.key} does nothing: {' and '.join(key.words)} gave the same data, weights, loss, gradients and "
            "optimizer in every setting that was tried; leave it out of the sweep, or find out what it was meant to do"
            for key in keys
            if key.dead
        ]

    def _shape(self, point: Point) -> int:
        """Print both models, taps, labels and vocabulary, and what learns under each policy; how large they are."""
        job = _job(point)
        data = self.models.data(job)
        self.page.data(
            data.describe(), list(data.labels), str(getattr(data, "tokenizer_spec", type(data.processor).__name__))
        )
        self._notices()
        task = build.task(job.cfg, data)
        student = self.models.bare(job, task, data)
        models = {"student" if "student" in job.cfg else "model": student}
        shapes = {name: model_summary(model) for name, model in models.items()}
        for place, node in (teacher_nodes(job.cfg.teacher) if asks_a_teacher(job) else {}).items():
            model, description = self.models.bare_teacher(job, place, node, task, data)
            models[place], shapes[place] = model, model_summary(model)
            self.page.teacher(description)
            self._compare(point, place, node, data)
        for stage in earlier(job):
            self.page.note(f"{stage.folder.name} is a stage that comes first, once; its time is not counted here")
        self.page.shapes(shapes)
        self.page.trainable(self._policies(student))
        if task.unit == "token" and not task.uses_labels:
            vocabularies = {name: shape.vocabulary for name, shape in shapes.items()}
            for text in language.check(job.cfg.trainer, data, task.chunk, models, vocabularies, self.page.note):
                self.wrong.setdefault(text, point)
        return sum(shape.parameters for shape in shapes.values())

    def _compare(self, point: Point, place: str, node: Node, data: Data) -> None:
        """What differs between the processors of student and teacher."""
        found = self.models.wanted(_job(point), place, node)
        trained = found if isinstance(found, Trained) else None
        own = self.models.data(found).processor if isinstance(found, Job) else None
        other = own if trained is None else data.processor.saved(trained.weights)
        if other is not None:
            for text in data.processor.differences(other):
                self.page.note(text)
            for text in data.processor.clashes(other):
                self.wrong.setdefault(text, point)

    def _notices(self) -> None:
        """Print what is odd about the data, in the tokens of any model, and was not printed yet."""
        for data in self.models.known.values():
            for notice in data.notices:
                if notice not in self.odd:
                    self.odd.add(notice)
                    self.page.note(notice)

    def _unread(self) -> list[str]:
        """What the processors of the data report as a problem, each once."""
        found = [data.processor.problems(data.encoded_rows().rows.unpacked) for data in self.models.known.values()]
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    def _policies(self, student: nn.Module) -> dict[str, tuple[int, int]]:
        found = {}
        for point in self.points:
            job = _job(point)
            words = [word for key, word in point.swept.items() if key.split(".")[0] in ("freeze", "peft", "transform")]
            name = ", ".join(words) or f"freeze={job.choices.get('freeze', '')}"
            if name not in found:
                try:
                    with torch.random.fork_rng(devices=[]):
                        transforms = build.transforms(job.cfg)
                        model = build.transformed(job.cfg, transforms, copy.deepcopy(student), self.models.data(job))
                    found[name] = trainable(instantiate.make(job.cfg.freeze), model)
                except UserError as problem:
                    self.wrong.setdefault(str(problem), point)
        return found

    def _others(self) -> None:
        """Try a point of each structure that none was tried of, while there is time."""
        began, tried = time.monotonic(), {outline(point.swept) for point in self.points if self._tried(point)}
        left: dict[tuple[str, ...], Point] = {}
        for point in self.points:
            if outline(point.swept) not in tried:
                left.setdefault(outline(point.swept), point)
        for count, point in enumerate(left.values()):
            if time.monotonic() - began > LONGEST:
                self.page.note(
                    f"{len(left) - count} of {len(left) + len(tried)} combinations of options were not tried, as that "
                    f"would take longer than {LONGEST:.0f} s; their values were checked"
                )
                return
            self._trace(point)

    def _tried(self, point: Point) -> bool:
        return _job(point).folder in self.traces

    def _by_words(self, words: Mapping[str, str]) -> Trace | None:
        point = self.by_words.get(json.dumps(dict(words), sort_keys=True))
        return None if point is None else self._trace(point)

    def _trace(self, point: Point) -> Trace | None:
        """What a few steps of the point do; None where they cannot be taken, which is noted."""
        job = _job(point)
        if job.folder not in self.traces:
            self.progress(f"trying a few steps of point {len(self.traces) + 1}: {point.name}")
            try:
                self.traces[job.folder] = self._try(job)
            except UserError as problem:
                self.traces[job.folder] = None
                self.wrong.setdefault(str(problem), point)
            except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as problem:
                self.traces[job.folder] = None
                reason = " ".join(str(problem).split())[:300]
                self.wrong.setdefault(f"a first step fails with {type(problem).__name__}: {reason}", point)
        return self.traces[job.folder]

    def _try(self, job: Job) -> Trace:
        data = self.models.data(job)
        small = few(data, max(ROWS, 2 * job.cfg.trainer.accumulate_grad_batches))
        prepared = self._prepared(job, small, self.folder)
        seen = dry_run(prepared.learner, prepared.data or small, partial(_trainer, job))
        plain: Any = as_plain(job.cfg)
        plain["trainer"]["max_epochs"] = epochs(job.cfg.trainer, data)
        trainer = {key: value for key, value in plain["trainer"].items() if key not in LENGTH}
        batches = len(data.train_dataloader()) * job.cfg.trainer.accumulate_grad_batches
        teachers = {place: trained.id for place, trained in prepared.teachers.items()}
        teaching = [teachers, job.cfg.teacher._target_] if asks_a_teacher(job) else []
        return {
            "the data": data_trace(data),
            "the teacher": written(teaching),
            "the first weights": written([job.cfg.get("start"), [stage.folder.name for stage in earlier(job)]]),
            **seen,
            "the trainer": written([trainer, cost.planned(batches, plain["trainer"])]),
            "what is measured": written([plain["metric"], plain["callback"]]),
        }

    def _prepared(self, job: Job, data: Data, outputs: Path) -> Plan:
        """The learner as its command makes it, for this data, with a stand-in for a teacher that is not trained."""
        cfg = job.cfg.copy()
        cfg.outputs = str(outputs)
        if (epochs(cfg.trainer, data) or -1) > 0:
            cfg.trainer.max_epochs = cost.MOST  # no trial has more: a teacher that stores each epoch has no more to do
        if "stages" in cfg:
            cfg.start, cfg.stages = None, {"earlier": []}
        if "teacher" in cfg and asks_a_teacher(job):
            for (place, node), own in zip(
                teacher_nodes(cfg.teacher).items(), teacher_nodes(job.cfg.teacher).values(), strict=True
            ):
                node.run = str(self.models.taught(job, place, own))
                if "generations" in node:
                    node.generations = 0
        torch.manual_seed(cfg.seed)
        probe = Job(job.command, outputs / job.command / job.folder.name, cfg, job.choices, job.overrides)
        if job.command != "distill":
            return planner(job.command)(probe, data)
        key = _teaching_key(probe, data)
        if (base := self.teaching.get(key)) is not None:
            return distill.varied(probe, data, base)
        prepared = distill.prepare(probe, data)
        if (base := distill.Teaching.of(prepared)) is not None:
            self.teaching[key] = base
        return prepared

    def _first(self, job: Job, measured: cost.Cost, data: Data, batch: Batch, stored: bool) -> dict[str, float]:
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

    def _cost(self, point: Point) -> list[str]:
        """Measure some whole steps of the first point, and add up what all jobs take; what there is no room for."""
        job = _job(point)
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
        prepared = self._prepared(job, part, root)
        store = cost.stored(root / "store", data.lengths, data.splits["train"], plain["max_epochs"] or 0)
        asked = 0 if store else sum(_bytes(trained.model) for trained in prepared.teachers.values())
        with computing(job.cfg.trainer.precision):
            measured = cost.measure(
                prepared.learner, prepared.data or part, partial(_trainer, job), asked, steps, data.tokens_per_step
            )
        self.page.adapters(_adapters(prepared.learner))
        count = cost.validations(batches, plain, steps)
        validated = count * _tokens(data, "val") + _tokens(data, "test")
        parts = {"student" if "student" in job.cfg else "model": steps * measured.step + validated * measured.token}
        parts |= {"generated texts": spent} if (spent := cost.generating(prepared.learner, count)) else {}
        batch = next(iter(part.train_dataloader()))
        with computing(job.cfg.trainer.precision):
            once = self._first(job, measured, data, batch, bool(store))
        threads = job.cfg.cluster.threads or torch.get_num_threads()
        left = self.beyond + sum(read_done(one) is None for one in folders(self.points))
        parts, once = ({name: cost.wall(value, threads) for name, value in some.items()} for some in (parts, once))
        self.page.cost(measured, once, parts, steps, cost.wall(measured.step, threads), threads, left, store)
        room, memory = free(Path(job.cfg.outputs)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        here = job.cfg.trainer.get("accelerator") == "cpu"
        return [
            f"training takes about {size(measured.bytes)} of memory, and this machine has {size(memory)}: lower "
            "datamodule.batch_size, tokens_per_batch or max_length, or raise trainer.accumulate_grad_batches"
        ] * (here and measured.bytes > memory) + [
            f"the teacher's answers take {size(store)}, but {Path(job.cfg.outputs).absolute()} has {size(room)} left: "
            "set outputs to a larger disk, or use teacher=live"
        ] * (store > room)


def _teaching_key(job: Job, data: Data) -> str:
    """Equal where two distillations have the same teacher for the same rows; values of the loss do not matter."""
    cfg, loss = job.cfg, instantiate.make(job.cfg.loss)
    parts = [cfg[name] for name in ("teacher", "task")] + [cfg.datamodule.get("augment"), cfg.module.get("writer")]
    plain = [as_plain(one) for one in parts]
    reads = [loss.needs_teacher, loss.maps_layers, sorted(loss.taps["teacher"]), build.needs_teacher(cfg.student)]
    how = [cfg.outputs, cfg.allow_overlap, str(cfg.trainer.precision), epochs(cfg.trainer, data)]
    return written([*plain, *reads, *how, rows_trace(data)])


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


def _job(point: Point) -> Job:
    assert point.job is not None
    return point.job


def _where(point: Point, count: int) -> str:
    return f"point {point.number + 1} of {count} ({point.name}): " if count > 1 else ""


def _trainer(job: Job, **given: Any) -> Trainer:
    """The config's trainer, on one CPU and without a trace on disk."""
    node = job.cfg.trainer
    half = {"precision": "bf16-mixed"} if str(node.get("precision", "")).startswith("16") else {}
    replaced = {name: value for name, value in ALONE.items() if name in node or name not in ("strategy", "num_nodes")}
    return instantiate.make(node, **(replaced | half | given))
