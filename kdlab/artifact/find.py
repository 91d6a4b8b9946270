"""From a teacher's node to trained models, found or trained first, and from these to the teacher.

A model is trained once for a whole sweep, however many jobs ask at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kdlab.artifact.run import read_done
from kdlab.artifact.trained import AGAIN, Trained, named
from kdlab.config import build, instantiate
from kdlab.config.early import WHICH
from kdlab.config.identity import named as run_name
from kdlab.config.job import Job, composed
from kdlab.config.node import Node, Unfit, arguments, as_plain, without
from kdlab.config.trust import Trust
from kdlab.config.verb import training
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.key import PROCESSORS
from kdlab.error import UserError
from kdlab.file import read_json
from kdlab.loss.objective import Objective
from kdlab.model.family.find import family
from kdlab.task.base import Task
from kdlab.teacher.aligned import Aligned
from kdlab.teacher.base import Teacher
from kdlab.teacher.retokenized import Retokenized, by_row

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


def generation(job: Job, place: str, number: int) -> Job:
    """This distillation itself as its ``number``-th generation: the same with another teacher.

    Source: Furlanello et al. 2018 (Born-Again Networks), arXiv:1805.04770, section 3.
    """
    if not isinstance(number, int) or number < 0 or place != "teacher":
        raise UserError(
            f"{place}.generations is {number + 1}, but must be a whole number from 0 up, and 0 for an ensemble's member"
        )
    cfg = job.cfg.copy()
    cfg.teacher.generations, cfg.rerun = number, False
    plain: Any = as_plain(cfg)
    overrides = [word for word in job.overrides if not word.startswith(("teacher.generations=", "rerun="))]
    folder = Path(cfg.outputs) / job.command / run_name(job.choices, plain)
    return Job(job.command, folder, cfg, job.choices, [*overrides, f"teacher.generations={number}"])


def recipe(job: Job, place: str, node: Node) -> Job:
    """The job that a recipe describes, with this job's outputs, logger and permission to download.

    A recipe is a command line: a verb, ``finetune`` where there is none, and its overrides. What it leaves open of a
    fine-tuned model is the node's ``model``; a distilled one is described by the recipe alone. A recipe that names
    neither a data set nor an experiment is about this job's task and data, see :func:`inherited`; one that names no
    trainer computes on the kind of device that this job computes on.
    """
    cfg, words = job.cfg, [str(word) for word in node.recipe]
    command = words.pop(0) if words and words[0] in training() else "finetune"
    named_keys = {key_of(word) for word in words}
    inherits = named_keys.isdisjoint(("datamodule", "experiment"))
    chosen = [f"{group}={job.choices[group]}" for group in ("datamodule", "task") if group in job.choices]
    chosen += [word for word in job.overrides if key_of(word) == "metric"]  # a list, which is no choice of one option
    option = job.choices.get(f"model@{place}.model")
    same = "model" not in named_keys or f"model={option}" in words
    given = command == "finetune" and "model" in node and same
    before = [word for word in chosen if inherits and word.split("=")[0] not in named_keys]
    before += [f"model={option}"] if option and given else []
    before += _where(cfg, named_keys)
    after = [f"{key}={cfg[key]}" for key in ("outputs", "download")] + [f"group={job.group}"]
    after += [f"{group}={job.choices[group]}" for group in ("logger",) if group in job.choices]
    nodes: dict[str, Mapping[str, Any]] = {}
    if given:
        apart = any(key.startswith("model.") for key in named_keys)
        nodes["model"] = _open(node.model, "model", named_keys, resolve=False) if apart else node.model
    if inherits:
        nodes |= inherited(cfg, named_keys, drop=command == "finetune")
    try:
        found = composed(command, [*before, *words, *after], **nodes)
    except Unfit as problem:
        raise UserError(f"{place}.recipe: {' '.join(str(problem).split())}") from problem
    if found.cfg.task._target_ != cfg.task._target_:
        raise UserError(f"{place}.recipe trains another task than the student's; choose the same task option in both")
    return found


def _where(cfg: Node, named_keys: Collection[str]) -> list[str]:
    """The overrides that let a recipe compute on the student's kind of device, on one of them, where it names none."""
    accelerator = str(cfg.trainer.get("accelerator", "cpu"))
    if accelerator == "cpu" or {"trainer", "trainer.accelerator"} & set(named_keys):
        return []
    return [f"trainer.accelerator={accelerator}"] if accelerator == "auto" else ["trainer=gpu"]


LEARNER = (  # keys of a datamodule or a task that belong to the learner, and not to the problem
    *PROCESSORS, "batch_size", "tokens_per_batch", "eval_batch_size", "augment", "curriculum", "unlabelled", "seed",
    "download", "head", "class_weights", "label_smoothing", "chunk",
)  # fmt: skip


def inherited(cfg: Node, named_keys: Collection[str], drop: bool) -> dict[str, Mapping[str, Any]]:
    """The values of task and data that a recipe without data of its own takes over, by node.

    Rows, columns, labels, splits, their caps, the rows that keep a label, and the length of a text are the student's.
    How the learner reads them is not: tokenizer, batches, augmentation, curriculum.

    Args:
        cfg: the student's config.
        named_keys: the keys that the recipe names, which win.
        drop: leave out rows whose label ``per_class`` or ``budget`` took, from which fine-tuning learns nothing.
    """
    data = _open(cfg.datamodule, "datamodule", named_keys)
    few = [name for name in ("per_class", "budget") if data.get(name) is not None]
    kept = {name: value for name, value in data.items() if name not in LEARNER}
    if few:  # the same rows keep their labels for both
        kept |= {name: data[name] for name in ("seed",) if name in data}
        kept |= {"unlabelled": "drop"} if drop and "unlabelled" in data else {}
    task = {name: value for name, value in _open(cfg.task, "task", named_keys).items() if name not in LEARNER}
    return {"datamodule": kept, "task": task}


def _open(node: Node, place: str, named_keys: Collection[str], resolve: bool = True) -> dict[str, Any]:
    """The values of a node that no key names, at ``place`` or inside of it."""
    own = {key.replace("/", ".").split("@")[0] for key in named_keys}
    own = {key.removeprefix(f"{place}.").split(".")[0] for key in own if key.startswith(f"{place}.")}
    plain: dict[Any, Any] = as_plain(node, resolve=resolve)
    return {str(name): value for name, value in plain.items() if name not in own}


def key_of(word: str) -> str:
    """The key or group that an override is about.

    Example:
        >>> key_of("+datamodule.path=a.csv"), key_of("~freeze")
        ('datamodule.path', 'freeze')
    """
    return word.split("=")[0].strip().lstrip("+~")


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
        match_labels(teacher, list(data.labels))
    elif data.read_by(teacher.weights) is not data:
        remedy = f"student.{PROCESSORS[0]}={teacher.weights}, the teacher's"
        if loss is None:
            raise UserError(
                f"teacher {teacher.id} predicts tokens of another tokenizer than the student reads: set {remedy}"
            )
        loss.check_other_tokens(teacher.id, remedy)


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
