"""Trained models on disk, by any name that a user may give them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdlab.artifact.run import read_done
from kdlab.config import build, instantiate
from kdlab.config.located import located
from kdlab.config.node import Node, arguments
from kdlab.config.trust import Trust
from kdlab.datamodule.processor.saved import factory_arguments, saved_processor
from kdlab.error import UserError
from kdlab.file import read_json
from kdlab.model.family.find import family
from kdlab.model.pretrained import classifier_name, readable
from kdlab.model.pretrained import read_config as read_shape
from kdlab.model.save import fingerprint, load
from kdlab.task.base import Task
from kdlab.transform.save import needs_kdlab

AGAIN = "delete the folder of its run, and the same command trains it again"


@dataclass
class Trained:
    """A trained model on disk.

    Attributes:
        folder: the run directory, or the model directory of a model from elsewhere.
        weights: the folder in ``save_pretrained`` layout.
        id: the run id, or the folder's name.
        trust: modules that its config may name.
    """

    folder: Path
    weights: Path
    id: str
    trust: Trust = field(default_factory=Trust, repr=False)
    _loaded: tuple[nn.Module, Any] | None = field(default=None, repr=False)
    _order: list[int] | None = field(default=None, repr=False)
    _ids: int | None = field(default=None, repr=False)

    @property
    def model(self) -> nn.Module:
        return self._load()[0]

    @cached_property
    def processor(self) -> Any:
        """The processor of transformers that turns values into inputs, such as a tokenizer; None: there is none."""
        _ = self._config  # a processor reads it too, with a less clear error where it is torn
        with self._remedied():
            return saved_processor(self.weights)

    @property
    def labels(self) -> list[str] | None:
        """The label names in the order of the logits, or None where the model has only numbers."""
        numbers = (f"LABEL_{index}" for index in range(len(self.names)))
        nameless = not (self.weights / "labels.json").exists() and set(self.names) == set(numbers)
        return None if nameless else self.names

    @property
    def names(self) -> list[str]:
        """The names of its labels, in the order of the logits, if only by number."""
        if (self.weights / "labels.json").exists():
            found = read_labels(self.weights)
        else:
            names = getattr(self._config, "id2label", None) or {}
            found = [str(names[index]) for index in sorted(names, key=int)]
        return found if self._order is None else [found[index] for index in self._order]

    @property
    def lacking(self) -> str | None:
        """The weights of its classifier, where those of a model from elsewhere are not among its weights."""
        files = sorted(self.weights.glob("*.safetensors"))
        if self._config is None or not files or self.stored is not None:
            return None
        names: set[str] = set()
        for file in files:
            with self._remedied(), readable(file) as opened:
                names |= set(opened.keys())
        name = classifier_name(self._config)
        return None if name is None or name in names else name

    def arrange(self, labels: Sequence[str]) -> bool:
        """Give the logits in the order of ``labels``, its own in another order; False where its head does not allow it.

        The rows of the last linear layer change places, so all that is made of the model follows.
        """
        order = [self.names.index(label) for label in labels]
        if self.head is None:
            return False
        _reorder(self.model, order)
        self._order = order if self._order is None else [self._order[index] for index in order]
        return True

    @property
    def vocabulary(self) -> int | None:
        """The number of token ids for which a language model has logits; None where that is not known."""
        if self._ids is not None or self._config is None:
            return self._ids
        return getattr(self._config.get_text_config(), "vocab_size", None)

    def keep_ids(self, count: int) -> None:
        """Leave only the first ``count`` token ids of a language model, also where it is loaded later."""
        self._ids = count
        if self._loaded is not None:
            family(self.model).keep_ids(self.model, count)

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers in ``metrics.json`` of the run, or nothing."""
        path = self.folder / "metrics.json"
        found = read_json(path, AGAIN, dict) if path.exists() else {}
        return {name: value for name, value in found.items() if isinstance(value, int | float)}

    @property
    def fingerprint(self) -> str:
        """A hash of the files with its weights and its shape, known without loading it."""
        with self._remedied():
            own = fingerprint(self.weights)
        changed = [one for one in (self._order, self._ids) if one is not None]
        return hashlib.sha256(" ".join(map(str, [own, *changed])).encode()).hexdigest() if changed else own

    @property
    def outputs(self) -> int | None:
        """The number of its logits, where that is known without loading it."""
        return len(self.labels) if self.labels else getattr(self._config, "num_labels", None)

    @property
    def depth(self) -> int:
        """The number of its layers; 0 where it is no stack of layers."""
        if self._config is None or not hasattr(self._config, "num_hidden_layers"):
            return family(self.model).depth(self.model)
        return self._config.num_hidden_layers or 0

    @property
    def heads(self) -> int:
        """The number of attention heads of a layer; 0 where it has none."""
        if self._config is None:
            return family(self.model).heads(self.model)
        return getattr(self._config, "num_attention_heads", None) or 0

    @property
    def head(self) -> nn.Linear | None:
        """The final linear layer of its model; None where it has none."""
        return family(self.model).head(self.model)

    @property
    def shape(self) -> Any:
        """The model's ``config`` of transformers; None for any other module."""
        return self._config

    @cached_property
    def _config(self) -> Any:
        """The ``config`` of transformers of a model; None for any other module."""
        with self._remedied():
            return read_shape(str(self.weights)) if (self.weights / "config.json").exists() else None

    def _load(self) -> tuple[nn.Module, Any]:
        if self._loaded is None:
            stored = self.stored
            whole = (self.weights / "config.json").exists() and not needs_kdlab(self.weights)
            if stored is not None:
                _import_family(stored.student if "student" in stored else stored.model)
            custom = stored is not None and (stored.task.get("head") or not whole)
            with self._remedied(), torch.random.fork_rng(devices=[]):  # when it is loaded changes nothing that is drawn
                self._loaded = load(self.weights, build=self._rebuild if custom else None)
            if self._ids is not None:
                self.keep_ids(self._ids)
        return self._loaded

    @contextmanager
    def _remedied(self) -> Iterator[None]:
        """Add to an error about a run's files that training it again restores them."""
        try:
            yield
        except UserError as problem:
            if self.stored is None:
                raise
            raise UserError(f"{problem} Or {AGAIN.replace('its run', str(self.folder))}") from problem

    @property
    def stored(self) -> Node | None:
        """The run's config, where the model comes from a run.

        Raises:
            UserError: it is damaged, or names code that is not allowed.
        """
        return self.trust.read(self.folder) if (self.folder / "config.yaml").exists() else None

    def _rebuild(self) -> nn.Module:
        """The run's model as its config describes it, for what ``save_pretrained`` alone cannot restore."""
        cfg = self.trust.read(self.folder)
        task = instantiate.make_a(Task, cfg.task)
        labels = read_labels(self.weights) if task.uses_labels else []
        node = cfg.student if "student" in cfg else cfg.model
        takes = arguments(node)
        known = {"labels": labels, **factory_arguments(self.weights)}
        given: dict[str, Any] = {
            name: value for name, value in known.items() if name in takes or instantiate.takes_any(takes)
        }
        if build.needs_teacher(node):
            teacher = teacher_of(self)
            if teacher is None:
                raise UserError(
                    f"run {self.id} is made of its teacher {taught_by(self.folder)}, which is not there any more: put "
                    "that folder back"
                )
            given["teacher"] = teacher.model
        task.prepare(labels, [1] * len(labels))
        if "task" in takes:
            given["task"] = task.kind
        model = task.attach(instantiate.make_a(nn.Module, instantiate.factory(node), **given))
        return build.transforms(cfg).attach(model, None) if needs_kdlab(self.weights) else model


def _import_family(node: Node) -> None:
    """Import the module that made a model, as it may define the model's family; one that is not there is not needed."""
    if find_spec(str(node._target_).partition(".")[0]) is not None:
        arguments(node)


def _reorder(model: nn.Module, order: list[int]) -> None:
    """Put the rows of the final linear layer into another order."""
    last = family(model).head(model)
    assert last is not None
    with torch.no_grad():
        last.weight.copy_(last.weight[order].clone())
        if last.bias is not None:
            last.bias.copy_(last.bias[order].clone())


def taught_by(folder: Path) -> str:
    """The folder of the teacher of a finished run that has a single one."""
    recorded = read_json(folder / "teacher.json", AGAIN, dict).get("folder")
    if not isinstance(recorded, str):
        raise UserError(f"{folder / 'teacher.json'} names no folder; {AGAIN}")
    return recorded


def teachers_of(folder: Path) -> dict[str, str]:
    """The folders of all trained models that taught a run, by their places in its config, such as ``teacher``."""
    path = folder / "teacher.json"
    if not path.exists():
        return {}
    places = read_json(path, AGAIN, dict).get("places")
    if places is None:
        return {"teacher": taught_by(folder)}
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise UserError(f"{path} names no folders; {AGAIN}")
    return places


def teacher_of(run: Trained) -> Trained | None:
    """The single trained model that taught a run, also where all runs were moved together; None: it is not there."""
    recorded = teachers_of(run.folder).get("teacher")
    if recorded is None:
        return None
    outputs = run.folder.parent.parent
    moved = outputs / Path(recorded).parent.name / Path(recorded).name
    for place in (Path(recorded), moved):
        if any((place / name).is_file() for name in ("config.yaml", "config.json")):
            return named(str(place), outputs, run.trust)
    return None


def read_labels(weights: Path) -> list[str]:
    """``labels.json`` of a model directory."""
    labels = read_json(weights / "labels.json", AGAIN, list)
    if not labels or not all(isinstance(label, str) for label in labels):
        raise UserError(f"{weights / 'labels.json'} is damaged (it is no list of names); {AGAIN}")
    return labels


def named(name: str, outputs: Path, trust: Trust | None = None, key: str = "") -> Trained:
    """A trained model by run id or a part of it, run directory or model directory.

    Args:
        name: an id may be cut to its end or its beginning, as `kdlab runs` shows it.
        trust: modules that its config may name; None: those of installed options.
        key: that names it, for a message.

    Raises:
        UserError: there is none, it is not finished, or a part of an id fits several.
    """
    folder, weights = located(str(name), outputs, key)  # a hash of digits is a number on the command line
    if weights != folder:
        read_done(folder)  # which refuses a damaged one
    return Trained(folder, weights, folder.name, trust or Trust())
