"""Checks of a config without data and models: that it composes, and that its values are allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kdlab.artifact.assemble import check_kept, settings_of
from kdlab.artifact.chain import asks_a_teacher, verify
from kdlab.artifact.find import teacher_nodes
from kdlab.artifact.recipe import generation, recipe
from kdlab.config import build, instantiate, monitor
from kdlab.config.job import Job
from kdlab.config.node import Node, Unfit, as_plain, given, made
from kdlab.config.point import Point
from kdlab.config.stage import earlier
from kdlab.error import UserError
from kdlab.loss.objective import Objective
from kdlab.task.base import Task

MADE = ("task", "datamodule", "freeze")  # cheap to make, and making them checks their values


def problems(points: Sequence[Point], progress: Callable[[str], None] = lambda text: None) -> dict[str, list[Point]]:
    """The problems of the points, each with the points that have it.

    Args:
        progress: is called with a text before each point.
    """
    checked = Precheck()
    found: dict[str, list[Point]] = {}
    for count, point in enumerate(points):
        progress(f"checking the values of point {count + 1} of {len(points)}")
        problem = point.problem or (checked(point.job) if point.job else "")
        if problem:
            found.setdefault(problem, []).append(point)
    return found


class Precheck:
    """Checks jobs; a node that several jobs have in common is looked at once."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.read: dict[str, Any] = {}

    def __call__(self, job: Job) -> str:
        """The problem of a job; "" where there is none."""
        try:
            for where, node in nodes(job.cfg):
                self._once(where, node)
            if "loss" in job.cfg:
                self._once("loss", job.cfg.loss, task=_task(job.cfg), teacher=job.cfg.teacher)
            self._transforms(job)
            if "metric" in job.cfg:
                self._once("metric", job.cfg.metric, task=_task(job.cfg))
            self._monitors(job)
            if asks_a_teacher(job):
                for place, node in teacher_nodes(job.cfg.teacher).items():
                    self._recipe(job, place, node)
                self._verify(job)
            for number, stage in enumerate(earlier(job)):
                if problem := self(stage):
                    raise UserError(f"stages.earlier.{number}: {problem}")
        except (UserError, *Unfit) as problem:
            return " ".join(str(problem).split())
        return ""

    def _once(self, where: str, node: Node, **more: Node) -> None:
        plain = [as_plain(one) for one in (node, *more.values())]
        key = json.dumps([where, *plain], default=str)
        if key not in self.known:
            try:
                self.known[key] = ""
                self._look(where, node, **more)
            except UserError as problem:
                self.known[key] = str(problem)
        if self.known[key]:
            raise UserError(self.known[key])

    def _look(self, where: str, node: Node, task: Node | None = None, teacher: Node | None = None) -> None:
        if where == "optimizer":
            build.optimizer(node)
        elif where == "scheduler":
            build.scheduler(node)
        elif where == "loss" and task is not None and teacher is not None:
            loss: Objective = instantiate.make(node)
            fit: Task = instantiate.make(task)
            loss.check(fit.outcome, fit.unit, fit.chunk)
            check_kept(loss, teacher)
        elif where == "metric" and task is not None:
            build.evaluators(node, instantiate.make(task))
        elif where in MADE:
            instantiate.make(node)
        else:
            instantiate.bind(node, where)

    def _transforms(self, job: Job) -> None:
        """Make the transforms, and check that the trainer suits them."""
        nodes = [*build.transform_nodes(job.cfg).values(), job.cfg.trainer]
        key = json.dumps(["transforms", *[as_plain(node) for node in nodes]], default=str)
        key += str(job.cfg.compile)
        if key not in self.known:
            self.known[key] = ""
            try:
                build.transforms(job.cfg)
            except UserError as problem:
                self.known[key] = str(problem)
        if self.known[key]:
            raise UserError(self.known[key])

    def _verify(self, job: Job) -> None:
        """Check the chain of teachers; points that differ in nothing that it depends on are asked once."""
        cfg = job.cfg
        plain = [as_plain(cfg[key]) for key in ("student", "teacher", "task", "datamodule")]
        plain[3] = {name: value for name, value in plain[3].items() if name != "seed"}
        key = json.dumps(["chain", job.choices, *plain], default=str)
        if key not in self.known:
            self.known[key] = ""
            try:
                verify(job, self.read)
            except UserError as problem:
                self.known[key] = str(problem)
        if self.known[key]:
            raise UserError(self.known[key])

    def _monitors(self, job: Job) -> None:
        """Check what follows a validation metric; points that differ in nothing that matters to it are asked once."""
        cfg = job.cfg
        parts = [node for _, node in monitor.watching(cfg)]
        parts += [cfg[key] for key in ("metric", "task", "module", "teacher") if key in cfg]
        plain = [as_plain(node) for node in parts] + [_outline(as_plain(cfg.loss)) if "loss" in cfg else None]
        key = json.dumps(["monitor", *plain], default=str)
        if key not in self.known:
            self.known[key] = ""
            try:
                monitor.check(cfg)
            except UserError as problem:
                self.known[key] = str(problem)
        if self.known[key]:
            raise UserError(self.known[key])

    def _recipe(self, job: Job, place: str, node: Node) -> None:
        """Check the command that a teacher is trained by, where it is not named by its run."""
        if "generations" in node and node.generations:
            generation(job, place, node.generations - 1)  # what it is taught by is this job's own recipe
        if node.run is not None:
            return
        asked = json.dumps([place, as_plain(node), job.choices], default=str)
        if asked not in self.known:
            self.known[asked] = ""
            try:
                problem = self(recipe(job, place, node))
            except UserError as mistake:
                problem = str(mistake)
            rest = problem.removeprefix(f"{place}.recipe: ")
            self.known[asked] = f"{place}.recipe: {rest}" if rest else ""
        if problem := self.known[asked]:
            raise UserError(problem)


def _outline(plain: Any) -> Any:
    """Plain values without the numbers, but 0 and 1, which may switch something off or on."""
    if isinstance(plain, dict):
        return {key: _outline(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_outline(value) for value in plain]
    return "number" if isinstance(plain, int | float) and plain not in (0, 1) else plain


def _task(cfg: Node) -> Node:
    """The task's node, which follows the data where several label columns are named."""
    if isinstance(as_plain(cfg.datamodule.get("label_column")), list) and "multi_label" in cfg.task:
        return made(as_plain(cfg.task) | {"multi_label": True})
    return cfg.task


def nodes(cfg: Node) -> Iterator[tuple[str, Node]]:
    """The nodes of a job that configure something, by key; the teacher's without the keys that choose the teacher."""
    for key in cfg:
        node = cfg[key] if given(cfg, key) else None
        if not isinstance(node, Node):
            continue
        if key == "teacher":
            yield from _teachers(node, "teacher")
        elif "_target_" in node:
            yield str(key), instantiate.factory(node) if key in ("model", "student") else node
        else:
            for name in node:
                if isinstance(node[name], Node) and "_target_" in node[name]:
                    yield f"{key!s}.{name!s}", node[name]


def _teachers(node: Node, where: str) -> Iterator[tuple[str, Node]]:
    """A teacher's node without the keys that choose the teacher, and the nodes of the teachers that it is made of."""
    yield where, settings_of(node)
    for name, member in (node.members if "members" in node else {}).items():
        yield from _teachers(member, f"{where}.members.{name}")
    for name, peer in (node.peers if "peers" in node else {}).items():
        yield f"{where}.peers.{name}", instantiate.factory(peer)
