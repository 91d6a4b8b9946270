"""The probes of `kdlab doctor` that need data and models: what fits together, what each key does, what it takes."""

from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from kdlab.artifact.chain import asks_a_teacher
from kdlab.artifact.find import teacher_nodes
from kdlab.artifact.run import read_done
from kdlab.artifact.trained import Trained
from kdlab.config import build, instantiate
from kdlab.config.job import Job
from kdlab.config.node import Node
from kdlab.config.point import Point, folders, outline
from kdlab.config.stage import earlier
from kdlab.datamodule.data import Data
from kdlab.doctor import language
from kdlab.doctor.dry_run import Trace
from kdlab.doctor.estimate import Estimate
from kdlab.doctor.model_summary import model_summary, trainable
from kdlab.doctor.swept_key import vary
from kdlab.doctor.table import Page
from kdlab.doctor.trial import Trials
from kdlab.doctor.untrained import UntrainedModels
from kdlab.error import UserError
from kdlab.plan.jumps import jumps

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
        self.trials = Trials(self.models, folder)
        self.traces: dict[Path, Trace | None] = {}
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
                self.traces[job.folder] = self.trials.run(job)
            except UserError as problem:
                self.traces[job.folder] = None
                self.wrong.setdefault(str(problem), point)
            except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as problem:
                self.traces[job.folder] = None
                reason = " ".join(str(problem).split())[:300]
                self.wrong.setdefault(f"a first step fails with {type(problem).__name__}: {reason}", point)
        return self.traces[job.folder]

    def _cost(self, point: Point) -> list[str]:
        """What there is no room for, by measuring one point."""
        left = self.beyond + sum(read_done(one) is None for one in folders(self.points))
        return Estimate(self.models, self.trials, self.folder).problems(_job(point), self.page, left)


def _job(point: Point) -> Job:
    assert point.job is not None
    return point.job


def _where(point: Point, count: int) -> str:
    return f"point {point.number + 1} of {count} ({point.name}): " if count > 1 else ""
