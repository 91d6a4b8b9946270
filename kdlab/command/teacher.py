"""Trained models on disk, by any name that a user may give them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from kdlab.command import build
from kdlab.error import UserError
from kdlab.file import read_json
from kdlab.model.pretrained import read_config as read_shape
from kdlab.model.save import fingerprint, load, load_tokenizer
from kdlab.run import read_config, read_done

AGAIN = "delete the folder of its run, and the same command trains it again"


@dataclass
class Trained:
    """A trained model on disk.

    Attributes:
        folder: the run directory, or the model directory of a model from elsewhere.
        weights: the folder in ``save_pretrained`` layout.
        id: the run id, or the folder's name.
    """

    folder: Path
    weights: Path
    id: str
    _loaded: tuple[nn.Module, Any] | None = field(default=None, repr=False)

    @property
    def model(self) -> nn.Module:
        return self._load()[0]

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.weights)

    @property
    def labels(self) -> list[str] | None:
        """The label names in the order of the logits, or None where the model has only numbers."""
        if (self.weights / "labels.json").exists():
            return read_json(self.weights / "labels.json", AGAIN)
        names = getattr(self._config, "id2label", None) or {}
        labels = [names[index] for index in sorted(names, key=int)]
        return None if all(name == f"LABEL_{index}" for index, name in enumerate(labels)) else labels

    @property
    def metrics(self) -> dict[str, float]:
        """``metrics.json`` of the run, or nothing."""
        path = self.folder / "metrics.json"
        return read_json(path, AGAIN) if path.exists() else {}

    @property
    def fingerprint(self) -> str:
        """A hash of the files with its weights and its shape, known without loading it."""
        with self._remedied():
            return fingerprint(self.weights)

    @property
    def outputs(self) -> int | None:
        """How many logits it gives, where that is known without asking it."""
        return len(self.labels) if self.labels else getattr(self._config, "num_labels", None)

    @property
    def depth(self) -> int:
        """How many layers it has; 0 where it is no stack of layers."""
        return getattr(self._config, "num_hidden_layers", None) or 0

    @cached_property
    def _config(self) -> Any:
        """What transformers knows of a model; None for any other module."""
        with self._remedied():
            return read_shape(str(self.weights)) if (self.weights / "config.json").exists() else None

    def _load(self) -> tuple[nn.Module, Any]:
        if self._loaded is None:
            custom = self._stored is not None and (
                self._stored.task.get("head") or not (self.weights / "config.json").exists()
            )
            with self._remedied():
                self._loaded = load(self.weights, build=self._rebuild if custom else None)
        return self._loaded

    @contextmanager
    def _remedied(self) -> Iterator[None]:
        """What cannot be read of a run can be had again by training it again."""
        try:
            yield
        except UserError as problem:
            if self._stored is None:
                raise
            raise UserError(f"{problem} Or {AGAIN.replace('its run', str(self.folder))}") from problem

    @property
    def _stored(self) -> DictConfig | None:
        """The run's config, where the model comes from a run."""
        return read_config(self.folder) if (self.folder / "config.yaml").exists() else None

    def _rebuild(self) -> nn.Module:
        """The run's model as its config describes it, for what ``save_pretrained`` alone cannot restore."""
        cfg = read_config(self.folder)
        labels = read_json(self.weights / "labels.json", AGAIN)
        node = cfg.student if "student" in cfg else cfg.model
        given: dict[str, Any] = {"labels": labels, "tokenizer": load_tokenizer(self.weights)}
        if build.needs_teacher(node):
            given["teacher"] = named(taught_by(self.folder), Path(cfg.outputs)).model
        task = build.make(cfg.task)
        task.prepare(labels, [1] * len(labels))
        return task.attach(build.make(node, **given))


def taught_by(folder: Path) -> str:
    """The folder of the teacher of a finished run that has a single one."""
    return str(read_json(folder / "teacher.json", AGAIN)["folder"])


def teachers_of(folder: Path) -> dict[str, str]:
    """The folders of all trained models that taught a run, by their places in its config, such as ``teacher``."""
    path = folder / "teacher.json"
    if not path.exists():
        return {}
    told = read_json(path, AGAIN)
    return told.get("places") or {"teacher": told["folder"]}


def named(name: str, outputs: Path) -> Trained:
    """A trained model by run id, run directory or model directory."""
    candidates = [Path(name)] + [outputs / command / name for command in ("finetune", "distill")]
    for folder in candidates:
        if folder.suffix == ".ckpt" and folder.is_file():
            folder = folder.parent.parent
        if (folder / "config.yaml").is_file():
            if read_done(folder) is None:
                raise UserError(
                    f"run {folder} is not finished, so it cannot serve as a trained model; run its command again first"
                )
            return Trained(folder, folder / "model", folder.name)
        if (folder / "config.json").is_file():
            return Trained(folder, folder, folder.name)
    where = ", ".join(str(folder) for folder in candidates)
    raise UserError(
        f"no trained model '{name}': none of {where} is a run or model directory; `kdlab runs` lists the runs"
    )
