"""`kdlab evaluate`: a finished run on a split, beside what it started from and what it learned from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor, nn

from kdlab.artifact import select
from kdlab.artifact.find import match_labels, read_by
from kdlab.artifact.run import read_done
from kdlab.artifact.trained import Trained, named, teacher_of, teachers_of
from kdlab.batch import Batch
from kdlab.config import build
from kdlab.config.stored import read_config
from kdlab.config.trust import Trust
from kdlab.datamodule.data import Data
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.error import UserError
from kdlab.file import read_json, write_json, write_text
from kdlab.loss.chunk import parts
from kdlab.meter import Meter
from kdlab.metric.causal_lm import causal_lm
from kdlab.metric.cost import LENGTH, latency, macs, parameters, throughput
from kdlab.metric.measure import measure
from kdlab.metric.report import report
from kdlab.report.evaluation import COLUMNS, show
from kdlab.store.inference import run_inference, tensor
from kdlab.store.store import Store, opened
from kdlab.task.base import Task

SPLITS = ("train", "val", "test")
TIMED = 6  # batches, spread evenly, that say how many rows a second a model reads
FEW = 8  # rows of a language model's batch
ALL = 2**30  # positions


def main(cfg: DictConfig) -> Path:
    """Evaluate, print the comparison and the report per class, and return the folder with ``report.json``."""
    if OmegaConf.is_missing(cfg, "run"):
        raise UserError(
            "run has no value; give a run id or a run directory: kdlab evaluate run=ID (`kdlab runs` lists them)"
        )
    if cfg.split not in SPLITS:
        raise UserError(f"split={cfg.split} is unknown: choose one of {', '.join(SPLITS)}")
    outputs = Path(cfg.outputs)
    subject = named(cfg.run, outputs, Trust.of(cfg))
    stored = _stored_config(subject)
    task = build.make_a(Task, stored.task)
    data = _data(cfg, stored, subject, task)
    task = build.task(stored, data)
    if not len(data.splits[cfg.split]):
        raise UserError(f"{data.source} has no labelled {cfg.split} rows: choose another split")
    batches = list(getattr(data, f"{cfg.split}_dataloader")() if cfg.split != "train" else data.evaluate_rows("train"))
    count = _rows(batches)
    print(f"measures {count:,} rows of {data.source}", flush=True)
    if "32" not in (trained_in := str(OmegaConf.select(read_config(subject.folder), "trainer.precision") or "32-true")):
        print(
            f"computes in float32, as predict and a loaded model do; the run's own test was in {trained_in}, so a few "
            "rows may be decided otherwise",
            flush=True,
        )
    if not task.uses_labels:
        batches = _slices(batches)
    elif not any(batch.size["labelled"] for batch in batches):
        raise UserError(
            f"no {cfg.split} row of {data.source} has a label to compare with: `kdlab predict` labels texts, and "
            "datamodule=table datamodule.path=FILE evaluates on a file with labels"
        )
    results: dict[str, dict[str, Any]] = {}
    choices: dict[str, Tensor] = {}
    known: dict[str, tuple[nn.Module | None, list[Batch], Tensor]] = {}
    target = torch.cat([_labels(task, batch) for batch in batches])
    for one in _contenders(cfg, stored, subject, task, data):
        own = batches if one.view is None else [one.view.again(batch).original for batch in batches]
        if not task.uses_labels:
            results[one.name], choices[one.name] = tokens(task, one.known, own, one.name)
        else:
            logits = one.answers(batches) if task.unit == "row" else None
            if logits is None:
                logits = predict(task, one.known, own, (one.view or data).lengths, one.name)
            results[one.name], choices[one.name] = classes(task, logits, target, list(data.labels))
            known[one.name] = one.model, own, logits
        if one.model is not None:
            row, some = (one.view or data).processor.example(LENGTH), own[:: -(-len(own) // TIMED)]
            results[one.name] |= parameters(one.model) | latency(one.model, row, cfg.repeats)
            results[one.name] |= {"macs": macs(one.model, row), "rows_per_second": throughput(one.model, some)}
    if "teacher" in choices:
        for name, result in results.items():
            result["agreement"] = float((choices[name] == choices["teacher"]).float().mean())
    more = _evaluated(stored, task, data, known, results)
    folder = outputs / "evaluate" / _place(cfg, subject)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "report.json",
        {"run": subject.id, "split": cfg.split, "rows": count, "labels": list(data.labels), "models": results},
    )
    console = Console(record=True, width=120)
    show(console, f"{subject.id} on {cfg.split}, {count:,} rows", results, list(data.labels), more)
    write_text(folder / "report.txt", console.export_text())
    print(f"written to {folder}")
    return folder


def _stored_config(subject: Trained) -> DictConfig:
    """The run's config, with its evaluators where these may be read."""
    try:
        return subject.trust.read(subject.folder, "metric")
    except UserError as problem:
        config = subject.trust.read(subject.folder)
        print(f"the run's own metrics are left out: {problem}", flush=True)
        return config


def _evaluated(
    stored: DictConfig,
    task: Task,
    data: Data,
    known: dict[str, tuple[nn.Module | None, list[Batch], Tensor]],
    results: dict[str, dict[str, Any]],
) -> list[str]:
    """Add what the run's evaluators measure of each model that is not in its report; the primary ones of these."""
    if "metric" not in stored or not known:
        return []
    evaluators = build.evaluators(stored.metric, task, data.labels)
    teacher = known["teacher"][2] if "teacher" in known else None
    for name, (model, batches, logits) in known.items():
        found = measure(evaluators, task, data, model, batches, logits, teacher)
        results[name] = found | results[name]
    return [name for name in evaluators.primaries() if name not in COLUMNS and name.split("/")[-1] not in COLUMNS]


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


def classes(task: Task, logits: Tensor, target: Tensor, labels: list[str]) -> tuple[dict[str, Any], Tensor]:
    """The report of a classifier, and what it chooses for every row: ``[N]``, or with several labels ``[N, C]``.

    Args:
        logits: ``[N, C]``.
        target: the labels of the same rows.
    """
    return report(task.outcome.probabilities(logits), target, labels), task.outcome.chosen(logits)


def tokens(task: Task, model: nn.Module, batches: list[Batch], name: str) -> tuple[dict[str, Any], Tensor]:
    """Accuracy and perplexity of the next token, and which one a model expects at every place ``[N]``."""
    metric, chosen = causal_lm(), []
    model.eval()
    with torch.inference_mode(), Meter(name, _rows(batches)) as meter:
        for batch in batches:
            meter.more(len(batch))
            for (part,) in parts(task.chunk or ALL, task.read(model, batch)):
                metric.update(*task.scored(part, batch))
                chosen.append(part.logits.argmax(-1))
    scores: dict[str, Any] = {name: float(value) for name, value in metric.compute().items()}
    return scores | {"tokens": sum(map(len, chosen))}, torch.cat(chosen)


def predict(
    task: Task, model: nn.Module, batches: list[Batch], lengths: np.ndarray, name: str = "predicting"
) -> Tensor:
    """Logits ``[N, C]`` of every row of the batches, in their order, computed on all cores or GPUs.

    Args:
        lengths: how many tokens each row of the data has, by row id.
        name: what the line of progress calls it.
    """
    found = []
    with Meter(name, _rows(batches)) as meter:
        for part in run_inference(model, task, lengths, batches, iter(range(len(batches))), (), "float32", name=None):
            found.append(torch.from_numpy(part.values["logits"][1]))
            meter.more(len(part.rows))
    return torch.cat(found)


def _data(cfg: DictConfig, stored: DictConfig, subject: Trained, task: Task) -> Any:
    node = cfg.datamodule if "datamodule" in cfg else stored.datamodule
    plain: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    node = plain | ({"tokenizer": str(subject.weights)} if "tokenizer" in plain else {})
    if "label_names" in node and node["label_names"] is None and task.uses_labels:
        node["label_names"] = subject.labels  # a small file need not have all of them
    if any(node.get(key) != stored.datamodule.get(key) for key in ("_target_", "path", "name")):
        node["whole"] = True  # another data set: nothing is cut off for training
    data = select.data(OmegaConf.create({"datamodule": node, "task": stored.task, "outputs": cfg.outputs}))
    known = subject.labels if task.uses_labels else None
    if known is not None and list(data.labels) != known:
        raise UserError(
            f"run {subject.id} has the labels {known}, the data has {list(data.labels)}; set datamodule.label_names"
        )
    return data


def _contenders(cfg: DictConfig, stored: DictConfig, subject: Trained, task: Task, data: Data) -> Iterator[Contender]:
    """The rows of the comparison, before to after; what cannot be had is left out and said."""
    outputs = Path(cfg.outputs)
    role = "student" if "student" in stored else "model"
    single = teachers_of(subject.folder).get("teacher")  # an ensemble's members may not even read these tokens
    teacher = teacher_of(subject)
    if teacher is not None and teacher.labels is not None and task.uses_labels:
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
        given = named(str(cfg.baseline), outputs, subject.trust, "baseline") if cfg.baseline else None
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
        mine = meta.get("of") == name if teacher is None else meta.get("teacher") == teacher.fingerprint
        whole = meta.get("data") == seen.fingerprint and meta.get("top_k") is None and "epoch" not in meta
        if mine and whole and "teacher" in meta:
            fitting.append((meta.get("precision") != "float32", path.parent, meta["teacher"]))
    if teacher is None and len({weights for *_, weights in fitting}) > 1:
        return None
    for _, folder, _ in sorted(fitting):
        with suppress(UserError):
            store = opened(folder)
            if (np.diff(store.offsets["token"])[seen.used] > 0).all():
                return store
    return None


def _labels(task: Task, batch: Batch) -> Tensor:
    """The labels of a batch, one for each prediction; of a task that does not look at them, as they are."""
    label, by_row = batch.target["label"], task.unit == "row" or not task.uses_labels
    return label if by_row or batch.tokens is None else label[batch.tokens]


def _rows(batches: list[Batch]) -> int:
    return sum(len(batch) for batch in batches)


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
    plain: Any = OmegaConf.to_container(read_config(folder))
    kept = {
        key: plain.get(key)
        for key in ("seed", "student", "task", "datamodule", "optimizer", "freeze", "peft", "penalty")
    }
    kept["transform"] = plain.get("transform") or {}
    if isinstance(kept["datamodule"], dict):
        kept["datamodule"] = {key: value for key, value in kept["datamodule"].items() if key != "unlabelled"}
    loss = plain.get("loss")
    return kept | {"terms": loss.get("terms") if isinstance(loss, dict) else None}


def _place(cfg: DictConfig, subject: Trained) -> str:
    asked = json.dumps(
        [OmegaConf.to_container(cfg.datamodule) if "datamodule" in cfg else None, cfg.split, cfg.baseline]
    )
    return f"{subject.id}-{cfg.split}-{hashlib.sha256(asked.encode()).hexdigest()[:6]}"


def _slices(batches: list[Batch]) -> list[Batch]:
    """The same rows in batches of a few, whose logits over a vocabulary fit into memory."""
    return [batch.rows(slice(start, start + FEW)) for batch in batches for start in range(0, len(batch), FEW)]


def interrupted(words: list[str]) -> str:
    """What the same command does after an interruption."""
    return "measures anew"
