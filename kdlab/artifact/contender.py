"""The models that an evaluation compares: before training, without a teacher, distilled, and the teacher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.artifact.assemble import match_labels, read_by
from kdlab.artifact.run import read_done
from kdlab.artifact.trained import Trained, named, teacher_of, teachers_of
from kdlab.batch import Batch
from kdlab.config import build
from kdlab.config.identity import essential
from kdlab.config.node import Node, as_plain
from kdlab.config.stored import read_config
from kdlab.config.trust import Trust
from kdlab.datamodule.data import Data
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.error import UserError
from kdlab.file import read_json
from kdlab.outcome import Classes
from kdlab.store.array import tensor
from kdlab.store.store import Store, opened
from kdlab.task.base import Task


@dataclass(frozen=True)
class Contender:
    """A row of the comparison.

    Attributes:
        name: what it is called.
        model: None where only its answers are left.
        view: the data in its own tokens; None: it reads the run's.
        store: its answers, where they were kept.
    """

    name: str
    model: nn.Module | None
    view: RetokenizedRows | None = None
    store: Store | None = None

    @property
    def known(self) -> nn.Module:
        assert self.model is not None
        return self.model

    def answers(self, batches: list[Batch]) -> Tensor | None:
        """The stored logits ``[N, C]`` of all rows of the batches, in their order; None where one is not stored."""
        if self.store is None:
            return None
        rows = torch.cat([batch.row for batch in batches]).numpy()
        return tensor(self.store.gather("logits", rows, 0), self.store.dtype("logits"))


def contenders(
    subject: Trained, stored: Node, task: Task, data: Data, outputs: Path, against: str | None = None
) -> Iterator[Contender]:
    """The rows of the comparison, before to after; a line names what is not there.

    Args:
        subject: the run that is evaluated.
        stored: its config.
        data: what it is evaluated on.
        outputs: where the runs are.
        against: the run without a teacher; None: found among the finished runs.
    """
    role = "student" if "student" in stored else "model"
    single = teachers_of(subject.folder).get("teacher")  # an ensemble's members may not even read these tokens
    teacher = teacher_of(subject)
    if teacher is not None and teacher.labels is not None and isinstance(task.outcome, Classes) and task.uses_labels:
        match_labels(teacher, list(data.labels))
    store = None
    if single is not None and task.uses_labels:
        store = _stored(outputs, Path(single).name, teacher, data)
    if single is not None and teacher is None:
        print(
            f"the teacher {Path(single).name} is not there any more: "
            + ("its stored answers stand in for it" if store else "nothing is measured of it"),
            flush=True,
        )
    torch.manual_seed(stored.seed)
    if teacher is not None or single is None or not build.needs_teacher(stored[role]):
        own = None if teacher is None else teacher.model
        model = build.student(stored, task, data, own) if role == "student" else build.model(stored.model, task, data)
        yield Contender("untrained", model)
    if single is not None:
        given = named(against, outputs, subject.trust, "baseline") if against else None
        baseline = given or find_baseline(subject.folder, outputs, subject.trust)
        if baseline is None:
            print("No baseline: run the same command with loss=ce to train the student without a teacher.")
        else:
            yield Contender("without teacher", baseline.model)
    yield Contender("distilled" if single is not None else "trained", subject.model)
    if teacher is not None:
        own = read_by(teacher, data, ())
        yield Contender("teacher", teacher.model, None if own is data else own, store)
    elif store is not None:
        yield Contender("teacher", None, None, store)


def _stored(outputs: Path, name: str, teacher: Trained | None, data: Data) -> Store | None:
    """What the teacher answered on every row of the data, where it is kept; full precision before any other.

    Args:
        name: the id of the teacher, for where it is not there any more: then all that is stored of that name has to be
            of the same weights.
    """
    seen = data if teacher is None else read_by(teacher, data, ())
    fitting = []
    for path in sorted((outputs / "store").glob("*/meta.json")):
        try:
            meta = read_json(path, "", dict)
        except UserError:  # a damaged store is built again by who needs it
            continue
        same_teacher = meta.get("of") == name if teacher is None else meta.get("teacher") == teacher.fingerprint
        whole = meta.get("data") == seen.fingerprint and meta.get("top_k") is None and "epoch" not in meta
        if same_teacher and whole and "teacher" in meta:
            fitting.append((meta.get("precision") != "float32", path.parent, meta["teacher"]))
    if teacher is None and len({weights for *_, weights in fitting}) > 1:
        return None
    for _, folder, _ in sorted(fitting):
        with suppress(UserError):
            store = opened(folder)
            if (np.diff(store.offsets["token"])[seen.used] > 0).all():
                return store
    return None


def find_baseline(folder: Path, outputs: Path, trust: Trust) -> Trained | None:
    """A finished run without a teacher that differs from this one in nothing that matters to a student alone."""
    wanted = _alone(folder)
    for path in sorted((outputs / "distill").glob("*/done.json")):
        other = path.parent
        try:
            if other != folder and read_done(other) and _alone(other) == wanted | {"terms": {}}:
                return Trained(other, other / "model", other.name, trust)
        except UserError:  # a damaged neighbour is no baseline
            continue
    return None


def _alone(folder: Path) -> dict[str, Any]:
    """What of a run's config matters to a student alone, and the terms of its loss."""
    plain: Any = as_plain(read_config(folder), resolve=False)
    kept = {
        key: plain.get(key)
        for key in ("seed", "student", "task", "datamodule", "optimizer", "freeze", "peft", "penalty")
    }
    kept["transform"] = plain.get("transform") or {}
    if isinstance(kept["datamodule"], dict):
        kept["datamodule"] = {key: value for key, value in kept["datamodule"].items() if key != "unlabelled"}
    loss = plain.get("loss")
    return essential(kept) | {"terms": loss.get("terms") if isinstance(loss, dict) else None}
