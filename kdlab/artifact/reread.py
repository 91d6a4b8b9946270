"""The rows that a finished run was measured on, read again as its model reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdlab.artifact import select
from kdlab.artifact.trained import Trained
from kdlab.batch import Batch
from kdlab.config.node import Node, made
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.key import PROCESSORS
from kdlab.datamodule.target import CLASS
from kdlab.error import UserError
from kdlab.task.base import Task

SPLITS = ("train", "val", "test")


def data_of(subject: Trained, node: dict[str, Any], stored: Node, task: Task, outputs: Path) -> Data:
    """The data of a run, or other data with the same labels, encoded by the processor that lies beside its weights.

    Args:
        node: the config of the data.
        stored: the run's config.

    Raises:
        UserError: the labels are not those of the run.
    """
    node = node | {name: str(subject.weights) for name in PROCESSORS if name in node}
    if "label_names" in node and node["label_names"] is None and task.uses_labels and task.answers == CLASS:
        node["label_names"] = subject.labels  # a small file need not have all of them
    if any(node.get(key) != stored.datamodule.get(key) for key in ("_target_", "path", "name")):
        node["whole"] = True  # another data set: nothing is cut off for training
    data: Data = select.data(made({"datamodule": node, "task": stored.task, "outputs": str(outputs)}))
    known = subject.labels if task.uses_labels else None
    if known is not None and list(data.labels) != known:
        raise UserError(
            f"run {subject.id} has the labels {known}, the data has {list(data.labels)}; set datamodule.label_names"
        )
    return data


def batches_of(split: str, data: Data) -> list[Batch]:
    """The rows of a split.

    Raises:
        UserError: there is no such split, or no row in it.
    """
    if split not in SPLITS:
        raise UserError(f"split={split} is unknown: choose one of {', '.join(SPLITS)}")
    if not len(data.splits[split]):
        raise UserError(f"{data.source} has no labelled {split} rows: choose another split")
    return list(getattr(data, f"{split}_dataloader")() if split != "train" else data.evaluate_rows("train"))
