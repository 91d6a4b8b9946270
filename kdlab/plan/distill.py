"""The plan of `kdlab distill`: a teacher and a student."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from kdlab.artifact import overlap
from kdlab.artifact.assemble import assemble, check, check_kept, layers
from kdlab.artifact.chain import key, verify
from kdlab.artifact.find import adopt, find, resolve, teacher_nodes
from kdlab.artifact.run import read_done
from kdlab.artifact.select import taught
from kdlab.artifact.trained import Trained
from kdlab.artifact.vocabulary import cut_to_common_ids
from kdlab.config import build, instantiate
from kdlab.config.check import reading
from kdlab.config.direction import costs
from kdlab.config.instantiate import target_of
from kdlab.config.job import Job
from kdlab.config.node import Node
from kdlab.datamodule.data import Data
from kdlab.direction import COUNTED, TIMED
from kdlab.error import UserError
from kdlab.loss.objective import Objective
from kdlab.loss.term import ModelSpec
from kdlab.model.family.find import family
from kdlab.module.base import TrainingRule
from kdlab.module.finetune import Finetune
from kdlab.module.parts import Parts, TeacherParts
from kdlab.module.self_taught import SelfTaughtRule
from kdlab.module.teacher_rule import TeacherRule
from kdlab.outcome import Classes
from kdlab.output import Output
from kdlab.plan.base import OnTeachers, Plan, Train, alone, penalised, refuse, shared
from kdlab.plan.length import epochs
from kdlab.plan.stage import begin
from kdlab.precision import computing
from kdlab.schedule.base import bounds
from kdlab.task.base import Task
from kdlab.teacher.base import SECONDS, Teacher


def prepare(job: Job, data: Data, train: Train = refuse, on_teachers: OnTeachers = alone) -> Plan:
    """Build what the run trains.

    Args:
        data: the datamodule after ``setup``.
        train: trains a run that this one needs and that is missing.
        on_teachers: is called with the teachers once they are there.
    """
    return penalised(job, _prepare(job, data, train, on_teachers))


def varied(job: Job, data: Data, base: Teaching) -> Plan:
    """The plan of :func:`prepare`, to the bit, with the teacher of another job whose teacher is the same.

    Args:
        data: has the rows, labels and tokens of the other job's.
        base: found by the other job; it must not learn, nor follow a student.
    """
    return penalised(job, _prepare(job, data, refuse, alone, base))


@dataclass(frozen=True)
class Teaching:
    """Teachers that several jobs can have in common.

    Attributes:
        found: the trained models, by place.
        teacher: made of these; None where the loss asks none.
    """

    found: dict[str, Trained]
    teacher: Teacher | None

    @staticmethod
    def of(plan: Plan) -> Teaching | None:
        """That of a plan; None where it changes with the student."""
        learner = plan.learner
        teacher = learner.teacher if isinstance(learner, TeacherRule) else None
        if isinstance(learner, TeacherRule) and (
            learner.trains_teacher or learner.teacher.learns or learner.teacher.follows
        ):
            return None
        return Teaching(dict(plan.teachers), teacher)


def _prepare(job: Job, data: Data, train: Train, on_teachers: OnTeachers, base: Teaching | None = None) -> Plan:
    cfg = job.cfg
    adopt(job, data, instantiate.make(cfg.task), lambda place, node: resolve(job, place, node, train).labels)
    task = build.task(cfg, data)
    loss: Objective = instantiate.make(cfg.loss)
    loss.check(task.outcome, task.unit, task.chunk)
    check_kept(loss, cfg.teacher)
    alone = not any(data.label_counts) and task.uses_labels
    if alone and bounds(loss.alpha, "loss.alpha", by_row=True)[0] < 1:
        raise UserError(
            "no training row has a label, so the teacher alone can teach: set loss.alpha=1 (with loss=kd, or another "
            "with a teacher), or keep labels (datamodule.per_class or budget above 0, where one of them is set)"
        )
    settings, transforms = shared(job, data, task), build.transforms(cfg)
    kind = build.teacher_kind(cfg.teacher)
    with reading(loss, "teacher"):
        kind.accept(loss.taps["teacher"])
    check_classes(cfg, task)
    for one in build.teacher_kinds(cfg.teacher):
        rule_kind(cfg.module).accept(one, task, loss)
    rule_kind(cfg.module).accept_data(data)
    writer = instantiate.make(cfg.module.writer) if "writer" in cfg.module else None
    if writer is not None and "teacher" not in teacher_nodes(cfg.teacher):
        raise UserError(
            f"module={rule_kind(cfg.module).option()} has one trained teacher that writes: set teacher=live, or "
            "teacher=cached"
        )
    layered = build.needs_teacher(cfg.student) and "teacher" in teacher_nodes(cfg.teacher)
    early = layered or writer is not None or (loss.maps_layers and loss.needs_teacher)
    found = {} if base is None else base.found
    if early and base is None:
        found = find_teachers(job, data, task, loss, train, on_teachers)
    computes = (cfg.trainer.precision, cfg.trainer.accelerator)
    if writer is not None:
        if not _reads_the_same(task, data, found["teacher"]):
            raise UserError(
                f"teacher {found['teacher'].id} writes in tokens that are not the student's: choose one with the "
                "student's tokenizer, or module=distill"
            )
        with computing(*computes):
            data = writer.rewrite(data, task, found["teacher"], Path(cfg.outputs) / "store")
    rows = data.every_row(256)[0]
    torch.manual_seed(first_seed(cfg))
    student = build.student(cfg, task, data, found["teacher"].model if "teacher" in found else None)
    student = build.transformed(cfg, transforms, student, data)
    if loss.maps_layers:
        loss.resolve_layers(family(student).depth(student), layers(cfg.teacher, found, student))
        with reading(loss, "teacher"):
            kind.accept(loss.taps["teacher"])
    taps = loss.taps

    def look() -> Output:
        with reading(loss, "student"), torch.no_grad(), computing(*computes):
            found = task.read(student.eval(), rows, taps["student"])
        student.train()
        return found if found.head is None else found.select(found.positions)

    probe = look()  # before a teacher is trained
    settings["metric"].try_on(task, data, student)
    if "samples" in cfg.module:
        instantiate.make(cfg.module.samples).check(task, data, student)
    classes = probe.logits.shape[-1]
    widths = {name: tap.shape[-1] for name, tap in probe.taps.items()}
    student_family = family(student)
    student_spec = ModelSpec(
        widths, student_family.depth(student), classes, student_family.heads(student),
        lambda: student_family.head(student),
    )  # fmt: skip
    start = begin(job, student, data, train)
    if start is not None and not cfg.allow_overlap and (seen := overlap.of_run(start)) is not None:
        overlap.check(f"start={start.id}", seen, data)
    if not loss.terms:
        return Plan(Finetune(Parts(student, **settings), cfg.seed), {}, found, start, transforms, data)
    if not loss.needs_teacher:
        loss.build_adapters(student_spec, ModelSpec(), rows=len(data.lengths))
        learner = SelfTaughtRule(Parts(student, **settings), loss, cfg.seed)
        return Plan(learner, {}, found, start, transforms, data)
    with torch.random.fork_rng(devices=[]):  # trained, loaded or found, a teacher leaves the adapters' weights alone
        found = found or find_teachers(job, data, task, loss, train, on_teachers)
        if cut_to_common_ids(student, [one for one in found.values() if _reads_the_same(task, data, one)]):
            probe = look()
        with reading(loss, "teacher"), computing(*computes):
            given = {"task": task, "store": Path(cfg.outputs) / "store", "student": student}
            given["epochs"] = epochs(cfg.trainer, data)
            shared_teacher = None if base is None else base.teacher
            teacher = shared_teacher or assemble(cfg.teacher, found, data, taps["teacher"], given)
            taught(data, task, teacher)
        classes = probe.logits.shape[-1]
        teacher_spec = ModelSpec(
            teacher.widths(), layers(cfg.teacher, found, student), classes, *_attention_and_head(found)
        )
    student_spec = replace(student_spec, classes=classes)
    comparing = [name for name, one in settings["metric"].items() if "teacher" in one.needs]
    if teacher.other_tokens and comparing:
        raise UserError(
            f"metric={comparing[0]} compares each prediction with the teacher's, but the teacher has other tokens than "
            "the student: leave it out, such as metric=[causal_lm,cost]"
        )
    loss.build_adapters(student_spec, teacher_spec, rows=len(data.lengths))
    # whatever does not fit together is refused before training
    with torch.random.fork_rng(devices=[]), torch.no_grad(), computing(*computes):
        output = teacher.read(task, rows)
        output = output if task.chunk is None else output.select(output.positions)
        loss.eval()(task.supervised(probe, rows), probe, output, 0.0)
    loss.train()
    learner = instantiate.make(cfg.module, parts=TeacherParts(student, **settings, teacher=teacher, loss=loss))
    seconds = teacher.seconds + (0.0 if writer is None else writer.seconds)
    return Plan(learner, known_of(found) | {SECONDS: seconds}, found, start, transforms, data)


def _reads_the_same(task: Task, data: Data, teacher: Trained) -> bool:
    """Whether the ids of a teacher of tokens are the student's."""
    return task.uses_labels or data.read_by(teacher.weights) is data


def _attention_and_head(found: Mapping[str, Trained]) -> tuple[int, Callable[[], nn.Linear | None]]:
    """The number of attention heads of a single teacher, and a function that returns its final linear layer."""
    if "teacher" not in found:
        return 0, lambda: None
    return found["teacher"].heads, lambda: found["teacher"].head


def find_teachers(
    job: Job, data: Data, task: Task, loss: Objective, train: Train, on_teachers: OnTeachers
) -> dict[str, Trained]:
    """The models that the config names, trained where they are missing, and fit for this data."""
    verify(job, {key(job.cfg): list(data.labels)})
    overlap.check_teachers(job, data)
    found = find(job, train)
    for place, trained in found.items():  # an ensemble's members are combined token by token
        check(trained, data, task, loss if place == "teacher" else None)
    if found:
        on_teachers(found)
    return found


def known_of(found: Mapping[str, Trained]) -> dict[str, float]:
    """Facts about each teacher for its student's metrics: its costs."""
    known = {}
    for place, trained in found.items():
        kinds = costs([read_done(trained.folder) or {}])
        for name, value in trained.metrics.items():
            if kinds.get(name) in (COUNTED, TIMED):
                known[f"{place.replace('.', '/')}/{name}"] = value
    return known


def check_classes(cfg: Node, task: Task) -> None:
    """Refuse teachers and rules that compute with probabilities, where the task has none.

    Raises:
        UserError: such a teacher or rule.
    """
    if isinstance(task.outcome, Classes):
        return
    rules = [one for one in (rule_kind(cfg.module),) if one.needs_classes]
    teachers = [one for one in build.teacher_kinds(cfg.teacher) if one.needs_classes]
    for group, remedy, found in (("module", "module=distill", rules), ("teacher", "teacher=cached or live", teachers)):
        for one in found:
            raise UserError(
                f"{group}={one.__module__.rpartition('.')[2]} computes with probabilities of classes, and the task "
                f"predicts numbers: choose {remedy}"
            )


def rule_kind(node: Node) -> type[TrainingRule]:
    """The class that a module node names; the base of all rules where that is none."""
    kind = target_of(node)
    return kind if isinstance(kind, type) and issubclass(kind, TrainingRule) else TrainingRule


def first_seed(cfg: Node) -> int:
    """The seed of the student's first weights: each generation of a born-again student begins anew."""
    return cfg.seed + 1_000_000 * (cfg.teacher.generations if "generations" in cfg.teacher else 0)
