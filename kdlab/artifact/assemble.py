"""From trained models to the teacher, and what is refused of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from kdlab.artifact.trained import Trained
from kdlab.config import build, instantiate
from kdlab.config.early import WHICH
from kdlab.config.node import Node, arguments, without
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.key import PROCESSORS
from kdlab.error import UserError
from kdlab.loss.objective import Objective
from kdlab.model.family.find import family
from kdlab.outcome import Real
from kdlab.task.base import Task
from kdlab.teacher.aligned import Aligned
from kdlab.teacher.base import Teacher
from kdlab.teacher.retokenized import Retokenized, by_row


def assemble(
    node: Node, found: Mapping[str, Trained], data: Data, taps: Collection[str], given: Mapping[str, Any],
    path: str = "teacher",
) -> Teacher:  # fmt: skip
    """The teacher of a node; its class is given what its signature asks for.

    Args:
        found: the trained models, by place.
        data: the datamodule.
        given: arguments that any teacher may take.
        path: the node's place.
    """
    asked = arguments(node)
    offers = dict(given) | {"data": data, "taps": taps}
    if "members" in node:
        offers["members"] = {
            name: assemble(member, found, data, (), given, f"{path}.members.{name}")
            for name, member in node.members.items()
        }
    if "peers" in node:
        offers["peers"] = {name: build.model(peer, given["task"], data) for name, peer in node.peers.items()}
    trained = found.get(path)
    if trained is not None:
        offers["trained"], offers["data"] = trained, read_by(trained, data, taps)
        if "model" in asked:
            offers["model"] = trained.model
    teacher = instantiate.make(settings_of(node), **{name: value for name, value in offers.items() if name in asked})
    if offers["data"] is data:
        return teacher
    view = offers["data"]
    return Retokenized(teacher, view) if given["task"].uses_labels else Aligned(teacher, view, data)


def settings_of(node: Node) -> Node:
    """The settings of the teacher: its node, at its place in the config, without the keys that choose the teacher."""
    return without(node, WHICH)


def layers(node: Node, found: Mapping[str, Trained], student: nn.Module) -> int:
    """The number of layers of the teacher; 0 where it is no stack of layers, or several."""
    if "teacher" in found:
        return found["teacher"].depth
    return family(student).depth(student) if "student" in arguments(node) else 0


def check_kept(loss: Objective, node: Node) -> None:
    """Refuse terms that need more of the teacher's logits than its node keeps.

    Raises:
        UserError: such a term, or an ensemble's member of which not all logits are kept.
    """
    for name, member in (node.members if "members" in node else {}).items():
        if "top_k" in member and member.top_k is not None:
            raise UserError(
                f"teacher.members.{name}.top_k={member.top_k} keeps the largest logits, but an ensemble combines all: "
                f"set teacher.members.{name}.top_k=null"
            )
    if "top_k" in node:
        loss.check_kept(node.top_k, list(node.temperatures))


def check(teacher: Trained, data: Data, task: Task, loss: Objective | None = None) -> None:
    """Refuse a teacher with other labels than the data, or where tokens are predicted, with other tokens.

    Args:
        loss: may compare pieces of a text, of which the tokens may differ; None: tokens are compared.
    """
    if task.uses_labels:
        match(teacher, task, list(data.labels))
        if task.unit != "row" and data.read_by(teacher.weights) is not data:
            raise UserError(
                f"teacher {teacher.id} has other tokens than the student, and each of them has an answer: set "
                f"student.{PROCESSORS[0]}={teacher.weights}, the teacher's"
            )
    elif data.read_by(teacher.weights) is not data:
        remedy = f"student.{PROCESSORS[0]}={teacher.weights}, the teacher's"
        if loss is None:
            raise UserError(
                f"teacher {teacher.id} predicts tokens of another tokenizer than the student reads: set {remedy}"
            )
        loss.check_other_tokens(teacher.id, remedy)


def match(teacher: Trained, task: Task, labels: Sequence[str]) -> None:
    """Refuse a teacher of other labels, or of numbers in another unit; arrange its logits in the order of labels.

    Raises:
        UserError: such a teacher.
    """
    if isinstance(task.outcome, Real):
        match_numbers(teacher, task.outcome)
    else:
        match_labels(teacher, labels)


def match_numbers(teacher: Trained, outcome: Real) -> None:
    """Check that a model gives one number a row, in the unit of the task.

    Raises:
        UserError: it has no trained head, classes, or another ``center`` or ``scale``.
    """
    if (lacking := teacher.lacking) is not None or teacher.outputs not in (1, None):
        reason = f"has {teacher.outputs} labels" if lacking is None else f"has no trained head ({lacking} is missing)"
        raise UserError(
            f"teacher {teacher.id} {reason}, but the task predicts one number a row: choose a teacher of numbers, or "
            f"fine-tune it first: teacher.recipe=['model=hf','model.path={teacher.weights}']"
        )
    stored = None if teacher.stored is None else teacher.stored.task
    for name in ("center", "scale"):
        own, other = getattr(outcome, name), 0.0 if stored is None else stored.get(name)
        other = float(name == "scale") if stored is None else other
        if other is None or float(other) != own:
            raise UserError(
                f"teacher {teacher.id} has task.{name}={other}, but this task has {own:g}, so that its logits mean "
                f"other numbers: set task.{name}={other}"
            )


def match_labels(teacher: Trained, labels: Sequence[str]) -> None:
    """Let a classifier give its logits in the order of these labels, which it must name.

    Raises:
        UserError: it has no trained classifier, only numbers for labels, or other labels.
    """
    again = f"leave teacher.run out and fine-tune it first: teacher.recipe=['model=hf','model.path={teacher.weights}']"
    if (lacking := teacher.lacking) is not None:
        raise UserError(f"teacher {teacher.id} has no trained classifier ({lacking} is not in its weights): {again}")
    if teacher.names == list(labels):
        return
    known = teacher.labels
    if known is None and teacher.outputs == len(labels):
        raise UserError(
            f"teacher {teacher.id} names its labels LABEL_0, LABEL_1 …, so which of {list(labels)} is which is not "
            f"known: write their names, in its order, as id2label into {teacher.weights / 'config.json'}, or {again}"
        )
    if known is None or sorted(known) != sorted(labels) or not teacher.arrange(labels):
        raise UserError(
            f"teacher {teacher.id} has the labels {known or teacher.outputs}, the data has {list(labels)}: train the "
            "teacher on this data, or set datamodule.label_names"
        )


def read_by(teacher: Trained, data: Data, taps: Collection[str]) -> Any:
    """The data as the teacher reads it: itself, or a view of it."""
    view = data.read_by(teacher.weights)
    if view is data:
        return data
    if by_token := sorted(set(taps) - by_row(taps)):
        raise UserError(
            f"teacher {teacher.id} and the student have different tokenizers, so that '{by_token[0]}' cannot be "
            f"compared token by token; set student.{PROCESSORS[0]}={teacher.weights}, the teacher's"
        )
    return view
