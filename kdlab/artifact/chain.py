"""Checks of a chain of teachers and students: the same labels and data, before any of them is trained."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

from kdlab.artifact.assemble import match
from kdlab.artifact.find import teacher_nodes, wanted
from kdlab.artifact.recipe import LEARNER
from kdlab.artifact.run import read_done
from kdlab.artifact.trained import Trained
from kdlab.config import build, instantiate
from kdlab.config.job import Job
from kdlab.config.node import Node, as_plain, given
from kdlab.datamodule.processor.key import PROCESSORS, TARGETS
from kdlab.datamodule.tokenizer import TRAIN, load
from kdlab.error import UserError
from kdlab.model.pretrained import read_config, resolve

Known = MutableMapping[str, Any]  # what was looked up already, by what was asked

CUT = (
    "max_length",
    "val_fraction",
    "test_fraction",
    "split_seed",
    "train_rows",
    "val_rows",
    "test_rows",
    "per_class",
    "budget",
    "select",
)  # fmt: skip  keys of a datamodule that no label depends on


def verify(job: Job, known: Known) -> None:
    """Refuse a distillation with a teacher, direct or indirect, that cannot be trained or has other labels.

    Args:
        known: filled with what is read; see :func:`key` for the labels of a data set.

    Raises:
        UserError: other labels, an unfinished or missing run, a tokenizer or pretrained weights that are not there.
    """
    task = instantiate.make(job.cfg.task)
    uses_labels = task.uses_labels
    _pretrained(job.cfg.student, job.cfg, known)
    _processor(job.cfg, known)
    for place, node in teacher_nodes(job.cfg.teacher).items():
        found = wanted(job, place, node)
        if isinstance(found, Trained):
            if uses_labels and (own := labels(job.cfg, known)):
                match(found, task, own)
            continue
        if read_done(found.folder) is not None:
            continue
        if uses_labels and key(found.cfg) != key(job.cfg):
            own, others = labels(job.cfg, known), labels(found.cfg, known)
            if own and sorted(own) != sorted(others):
                raise UserError(
                    f"{place}.recipe trains on data with the labels {others}, but the student's data has {own}: leave "
                    "the data set out of the recipe, which then takes the student's, or name data with the same labels"
                )
        if "teacher" in found.cfg:
            if asks_a_teacher(found):
                verify(found, known)
        else:
            _pretrained(found.cfg.model, found.cfg, known)
            _processor(found.cfg, known)


def asks_a_teacher(job: Job) -> bool:
    """Whether a distillation asks its teacher anything, or its student begins with a part of it."""
    cfg = job.cfg
    return "teacher" in cfg and (
        "writer" in cfg.module or instantiate.make(cfg.loss).needs_teacher or build.needs_teacher(cfg.student)
    )


def key(cfg: Node) -> str:
    """The settings that decide the labels of a config's data."""
    plain: dict[Any, Any] = as_plain(cfg.datamodule)
    kept = {str(name): value for name, value in plain.items() if name not in (*LEARNER, *CUT)}
    return json.dumps(["labels", build.asked(cfg), kept], sort_keys=True, default=str)


def splits_key(cfg: Node) -> str:
    """The settings that decide the training rows of a config's data, but for caps, which only take some away."""
    decide = ("val_fraction", "test_fraction", "split_seed")
    plain = {name: cfg.datamodule[name] for name in decide if name in cfg.datamodule}
    return json.dumps([key(cfg), plain], default=str)


def labels(cfg: Node, known: Known) -> list[str]:
    """The labels of a config's data, in the order of the logits."""
    asked = key(cfg)
    if asked not in known:
        module = instantiate.make(cfg.datamodule)
        module.asked = build.asked(cfg)
        module.prepare_data()
        known[asked] = list(module.make_target(module.corpus()).names)
    return known[asked]


def _processor(cfg: Node, known: Known) -> None:
    for name in (*PROCESSORS, *TARGETS):
        spec = str(cfg.datamodule.get(name) or TRAIN)  # of another modality it has none
        if not spec.startswith(TRAIN) and f"{name} {spec}" not in known:
            known[f"{name} {spec}"] = len(load(spec, (), bool(cfg.download)))


def _pretrained(node: Node, cfg: Node, known: Known) -> None:
    """Look for the files of a pretrained model."""
    path = node.get("path") if given(node, "path") else None
    if isinstance(path, str) and f"model {path}" not in known:
        read_config(resolve(path, bool(cfg.download)), bool(cfg.download))
        known[f"model {path}"] = True
