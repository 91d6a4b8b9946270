"""From a teacher's recipe to the job that trains it, with what the student's job gives to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kdlab.config.identity import named as run_name
from kdlab.config.job import Job, composed
from kdlab.config.node import Node, Unfit, as_plain
from kdlab.config.verb import training
from kdlab.datamodule.processor.key import PROCESSORS
from kdlab.error import UserError


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
        nodes |= inherited(cfg, named_keys, drop=command == "finetune" and "trainer.max_steps=0" not in words)
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
