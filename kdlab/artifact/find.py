"""From a teacher's node to trained models, found or trained first.

A model is trained once for a whole sweep, however many jobs ask at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kdlab.artifact.recipe import generation, recipe
from kdlab.artifact.run import read_done
from kdlab.artifact.trained import AGAIN, Trained, named
from kdlab.config.job import Job
from kdlab.config.node import Node
from kdlab.config.trust import Trust
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.file import read_json
from kdlab.task.base import Task

Train = Callable[[Job], object]  # does a job that is not done


def teacher_nodes(node: Node, path: str = "teacher") -> dict[str, Node]:
    """The nodes that name a trained model, by their keys in the config: one, or those of an ensemble's members."""
    if "members" in node:
        return {
            place: inner
            for name, member in node.members.items()
            for place, inner in teacher_nodes(member, f"{path}.members.{name}").items()
        }
    return {path: node} if "recipe" in node else {}


def find(job: Job, train: Train) -> dict[str, Trained]:
    """All trained models that the job's teacher needs, by place; trains those whose run is missing."""
    return {place: resolve(job, place, node, train) for place, node in teacher_nodes(job.cfg.teacher).items()}


def resolve(job: Job, place: str, node: Node, train: Train) -> Trained:
    """The trained model that a node names."""
    found = wanted(job, place, node)
    if isinstance(found, Trained):
        return found
    if read_done(found.folder) is None:
        train(found)
    else:
        unchanged(found, found.folder)
    return Trained(found.folder, found.folder / "model", found.folder.name, Trust.of(found.cfg))


def adopt(job: Job, data: Data, task: Task, known: Callable[[str, Node], Sequence[str] | None]) -> None:
    """Give texts of which none has a label, and for which none are named, the labels of the teacher.

    Args:
        known: the labels of the teacher at a place.

    Raises:
        UserError: it does not name its labels.
    """
    if data.labels or not task.uses_labels or "teacher" not in job.cfg:
        return
    for place, node in teacher_nodes(job.cfg.teacher).items():
        labels = known(place, node)
        if labels is None:
            raise UserError(
                f"{data.source} has no labels, and {place} does not name its own: set datamodule.label_names to their "
                "names, in the order of its logits"
            )
        data.adopt(labels)
        return


def wanted(job: Job, place: str, node: Node) -> Trained | Job:
    """The trained model that a node names, or the job that would train it, done or not."""
    if "generations" in node and node.generations:
        return generation(job, place, node.generations - 1)
    if node.run is not None:
        return named(node.run, Path(job.cfg.outputs), Trust.of(job.cfg))
    return recipe(job, place, node)


def unchanged(job: Job, folder: Path) -> None:
    """Refuse a run, finished or begun, whose teacher is no longer the one that it learned from.

    What a run reads itself is part of its id by content; of a teacher by recipe, or by id, that is not so.

    Raises:
        UserError: a file or an option that the recipe names was changed, or the teacher's weights were replaced.
    """
    path = folder / "teacher.json"
    if not path.exists() or "teacher" not in job.cfg:
        return
    recorded, state = read_json(path, AGAIN, dict), "finished" if read_done(folder) else "begun"
    for place, node in teacher_nodes(job.cfg.teacher).items():
        before, weights = recorded.get("places", {}).get(place), recorded.get("weights", {}).get(place)
        if before is None:
            continue
        try:
            found = wanted(job, place, node)
        except UserError:  # it is no longer there, which a finished run does not need
            continue
        now = found.folder.name
        remedy = "add rerun=true to train the run again, or put back what was there"
        if isinstance(found, Job):
            if now != Path(before).name:
                raise UserError(
                    f"run {folder.name} is {state} with the teacher {Path(before).name}, but {place}.recipe now "
                    f"describes {now}, since a file or an option that it names was changed: {remedy}"
                )
            if read_done(found.folder) is None:
                continue
            unchanged(found, found.folder)
            found = Trained(found.folder, found.folder / "model", now)
        if weights is not None and found.fingerprint != weights:
            raise UserError(
                f"run {folder.name} is {state}, but the weights of its teacher {now} were replaced since: {remedy}"
            )
