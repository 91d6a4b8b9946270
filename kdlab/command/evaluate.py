"""`kdlab evaluate`: a finished run on a split, beside what it started from and what it learned from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor, nn

from kdlab.artifact.contender import Contender, contenders
from kdlab.artifact.reread import SPLITS, batches_of, data_of
from kdlab.artifact.trained import Trained, named
from kdlab.batch import Batch
from kdlab.config import build, instantiate
from kdlab.config.stored import read_config
from kdlab.config.trust import Trust
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Processor
from kdlab.error import UserError
from kdlab.file import write_json, write_text
from kdlab.loss.chunk import parts
from kdlab.meter import Meter
from kdlab.metric.base import Evaluator
from kdlab.metric.causal_lm import causal_lm
from kdlab.metric.cost import Cost
from kdlab.metric.evaluators import Evaluators
from kdlab.metric.fidelity import AGREEMENT
from kdlab.metric.measure import measure
from kdlab.metric.regression import regression
from kdlab.metric.report import report
from kdlab.metric.scores import Scores
from kdlab.outcome import Real
from kdlab.report.evaluation import Samples, show, show_texts
from kdlab.store.inference import run_inference
from kdlab.task.base import Task

FEW = 8  # rows of a language model's batch
ALL = 2**30  # positions
READING = (  # keys of a table that hold for another file too: what a row is, and what the model reads of it
    "text_column", "label_column", "label_map", "multi_label", "label_separator", "max_length", "messages_column",
    "prompt_column", "completion_column", "role_key", "content_key", "roles", "system", "answers", "long",
)  # fmt: skip
Known = tuple[Contender, list[Batch], Tensor]  # a model of the comparison, the batches as it reads them, its logits


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
    task = instantiate.make_a(Task, stored.task)
    data = _data(cfg, stored, subject, task)
    task = build.task(stored, data)
    batches = _batches(cfg.split, data, task)
    count = sum(map(len, batches))
    print(f"measures {count:,} rows of {data.source}", flush=True)
    if "32" not in (trained_in := str(OmegaConf.select(read_config(subject.folder), "trainer.precision") or "32-true")):
        print(
            f"computes in float32, as predict and a loaded model do; the run's own test was in {trained_in}, so a few "
            "rows may be decided otherwise",
            flush=True,
        )
    results: dict[str, dict[str, Any]] = {}
    choices: dict[str, Tensor] = {}
    known: dict[str, Known] = {}
    target = torch.cat([_labels(task, batch) for batch in batches])
    evaluators, samples = _evaluators(cfg, stored, task, data, subject.model), Samples()
    if task.uses_labels:
        evaluators.chosen("evaluate").try_on(task, data, subject.model)
    texts: dict[str, dict[str, Any]] = {}
    for one in contenders(subject, stored, task, data, outputs, None if cfg.baseline is None else str(cfg.baseline)):
        own = batches if one.view is None else [one.view.again(batch).original for batch in batches]
        if not task.uses_labels:
            writers = Evaluators({}) if one.view else evaluators.generating("evaluate")
            writers.setup(task, data)
            processor = (one.view or data).processor
            results[one.name], choices[one.name] = tokens(task, one.known, own, processor, one.name, writers)
            texts[one.name] = {name: value for name, value in writers.compute().items() if value == value}
            samples.add(one.name, writers.samples())
            known[one.name] = one, own, torch.empty(0)
            continue
        logits = one.answers(batches) if task.unit == "row" else None
        if logits is None:
            logits = predict(task, one.known, own, (one.view or data).lengths, one.name)
        if isinstance(task.outcome, Real):
            results[one.name] = numbers(task.outcome, logits, target)
        else:
            results[one.name], choices[one.name] = classes(task, logits, target, list(data.labels))
        known[one.name] = one, own, logits
    quality = [name for name, value in next(iter(results.values())).items() if isinstance(value, float)]
    if "teacher" in choices and not task.uses_labels and known["teacher"][0].view is not None:
        print("the teacher has other tokens, so that neither its choices nor its perplexity compare with the others'")
    elif "teacher" in choices:
        counts = torch.cat([_counts(task, batch) for batch in batches]) if task.uses_labels else slice(None)
        for name, result in results.items():
            result[AGREEMENT] = float((choices[name] == choices["teacher"])[counts].float().mean())
    more, costs = _evaluated(cfg, evaluators, task, data, known, results)
    for name, found in texts.items():
        results[name] |= found
    folder = outputs / "evaluate" / _place(cfg, subject)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "report.json",
        {"run": subject.id, "split": cfg.split, "rows": count, "labels": list(data.labels), "models": results}
        | ({"samples": samples.rows} if samples.rows else {}),
    )
    console = Console(record=True, width=120)
    columns = [*quality, *([AGREEMENT] if choices else []), *costs]
    asked = _asked(cfg, evaluators)
    full = {name for names in asked.values() for name in names}
    more = [name for name in more if not {name, name.rpartition("/")[2]} & set(columns) and not any(texts.values())]
    more = [name for name in more if name not in full]
    title = f"{subject.id} on {cfg.split}, {count:,} rows"
    show(console, title, results, list(data.labels), columns, more, _from_teacher(stored), asked)
    show_texts(console, texts, samples.rows)
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


def _from_teacher(stored: DictConfig) -> bool:
    """Whether the student begins with weights of the teacher's layers."""
    student = OmegaConf.select(stored, "student")
    return student is not None and build.needs_teacher(student) and OmegaConf.select(student, "pretrained") is not False


def _batches(split: str, data: Data, task: Task) -> list[Batch]:
    """The rows of a split that can be measured.

    Raises:
        UserError: there are none.
    """
    found = batches_of(split, data)
    if not task.uses_labels:
        return _slices(found)
    if not any(batch.size["labelled"] for batch in found):
        raise UserError(
            f"no {split} row of {data.source} has a label to compare with: `kdlab predict` labels texts, and "
            "datamodule=table datamodule.path=FILE evaluates on a file with labels"
        )
    return found


def _evaluators(cfg: DictConfig, stored: DictConfig, task: Task, data: Data, model: nn.Module) -> Evaluators:
    """Those of the run, and those that the command line names, which replace the run's of the same name."""
    found = [build.evaluators(stored.metric, task, data.labels)] if "metric" in stored else []
    found.append(
        _fitting(cfg.metric, task, data, model) if cfg.fitting else build.evaluators(cfg.metric, task, data.labels)
    )
    return Evaluators({name: one for some in found for name, one in some.items()})


def _fitting(nodes: DictConfig, task: Task, data: Data, model: nn.Module) -> Evaluators:
    """Those that can measure the model on this data; a line for each of the others."""
    found: dict[str, Evaluator] = {}
    for name in build.metric_nodes(nodes):
        try:
            one = build.evaluators(OmegaConf.masked_copy(nodes, [name]), task, data.labels)
            one.try_on(task, data, model)
            found |= dict(one.items())
        except UserError as problem:
            print(f"leaves out {name}: {problem}", flush=True)
    return Evaluators(found)


def _asked(cfg: DictConfig, evaluators: Evaluators) -> dict[str, list[str]]:
    """The figures of the evaluators that the command line names."""
    chosen = build.metric_nodes(cfg.metric)
    costs = {name for _, one in evaluators.items() for name in one.costs}
    return {
        name: [key for key in one.higher_is_better if key not in costs]
        for name, one in evaluators.items()
        if name in chosen
    }


def _evaluated(
    cfg: DictConfig,
    evaluators: Evaluators,
    task: Task,
    data: Data,
    known: dict[str, Known],
    results: dict[str, dict[str, Any]],
) -> tuple[list[str], list[str]]:
    """Add what the run's evaluators, and the cost, measure of each model that is not in its report.

    Returns:
        The primary metrics of the evaluators, and the names of the costs.
    """
    examined = Evaluators({name: one for name, one in evaluators.items() if not isinstance(one, Cost)})
    cost = Cost(cfg.repeats)
    short = {name: name.rpartition("/")[2] for name in cost.higher_is_better}
    teacher = known["teacher"][2] if "teacher" in known and task.uses_labels else None
    same = "teacher" in known and known["teacher"][0].view is None
    of_teacher = known["teacher"][0].model if same else None
    for name, (one, batches, logits) in known.items():
        found: dict[str, float] = {}
        if task.uses_labels:
            processor = None if one.view is None else one.view.processor
            found = measure(evaluators, task, data, one.model, batches, logits, teacher, processor, of_teacher)
        if one.model is not None:
            found |= examined.examine(one.model, data, batches)
            found |= {short[key]: value for key, value in cost.examine(one.model, data, batches).items()}
        results[name] = found | results[name]
    return evaluators.primaries(), [short[key] for key in cost.main]


def classes(task: Task, logits: Tensor, target: Tensor, labels: list[str]) -> tuple[dict[str, Any], Tensor]:
    """The report of a classifier, and what it chooses for every row: ``[N]``, or with several labels ``[N, C]``.

    Args:
        logits: ``[N, C]``.
        target: the labels of the same rows.
    """
    return report(task.outcome.probabilities(logits), target, labels), task.outcome.chosen(logits)


def numbers(outcome: Real, logits: Tensor, target: Tensor) -> dict[str, Any]:
    """The metrics of a model of numbers.

    Args:
        logits: ``[N, 1]``.
        target: the numbers of the same rows.
    """
    metric = regression(outcome.names)
    metric.update(outcome.chosen(logits).squeeze(-1), target)
    return {name: float(value) for name, value in metric.compute().items()}


def tokens(
    task: Task,
    model: nn.Module,
    batches: list[Batch],
    processor: Processor,
    name: str,
    writers: Evaluators | None = None,
) -> tuple[dict[str, Any], Tensor]:
    """The metrics of the next token, and which one a model expects at every place ``[N]``.

    Args:
        writers: take in the same batches, and let the model generate.
    """
    writers = writers or Evaluators({})
    metric, chosen = Scores(causal_lm()), []
    metric.learn(processor)
    model.eval()
    with torch.inference_mode(), Meter(name, sum(map(len, batches))) as meter:
        for batch in batches:
            meter.more(len(batch))
            for (part,) in parts(task.chunk or ALL, task.read(model, batch)):
                metric.metrics.update(*task.scored(part, batch))
                chosen.append(part.logits.argmax(-1))
                writers.update(part, batch)
        writers.finish(model)
    return metric.compute() | {"tokens": sum(map(len, chosen))}, torch.cat(chosen)


def predict(
    task: Task, model: nn.Module, batches: list[Batch], lengths: np.ndarray, name: str = "predicting"
) -> Tensor:
    """Logits ``[N, C]`` of every row of the batches, in their order, computed on all cores or GPUs.

    Args:
        lengths: how many tokens each row of the data has, by row id.
        name: what the line of progress calls it.
    """
    found = []
    with Meter(name, sum(map(len, batches))) as meter:
        for part in run_inference(model, task, lengths, batches, iter(range(len(batches))), (), "float32", name=None):
            found.append(torch.from_numpy(part.values["logits"][1]))
            meter.more(len(part.rows))
    return torch.cat(found)


def _data(cfg: DictConfig, stored: DictConfig, subject: Trained, task: Task) -> Data:
    node = cfg.datamodule if "datamodule" in cfg else stored.datamodule
    plain: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    plain = _as_the_run_reads(plain, stored.datamodule) if "datamodule" in cfg else plain
    return data_of(subject, plain, stored, task, Path(cfg.outputs))


def _as_the_run_reads(node: dict[str, Any], stored: DictConfig) -> dict[str, Any]:
    """A data set that reads its rows as the run did, but for the keys that the command line sets."""
    words = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    given = {word.lstrip("+").partition("=")[0] for word in words}
    own: dict[str, Any] = OmegaConf.to_container(stored, resolve=True)  # type: ignore[assignment]
    same = ["max_length"] if node.get("_target_") != own.get("_target_") else READING
    kept = {key: own[key] for key in same if key in node and own.get(key) is not None}  # null: it had no such thing
    kept = {key: value for key, value in kept.items() if f"datamodule.{key}" not in given}
    if changed := sorted(key for key, value in kept.items() if value != node[key]):
        shown = ", ".join(f"{key}={kept[key]}" for key in changed)
        print(f"reads the rows as the run did: {shown}", flush=True)
    return node | kept


def _labels(task: Task, batch: Batch) -> Tensor:
    """The labels of a batch, one for each prediction; of a task that does not look at them, as they are."""
    label, by_row = batch.target["label"], task.unit == "row" or not task.uses_labels
    return label if by_row or batch.tokens is None else label[batch.tokens]


def _counts(task: Task, batch: Batch) -> Tensor:
    """Which predictions of a batch count: of tokens, those that the task's mask has."""
    if task.unit == "row" or batch.tokens is None:
        return torch.ones(len(batch), dtype=torch.bool)
    logits = torch.zeros(*batch.tokens.shape, len(task.outcome.names))
    return task.frame(logits, batch).mask[batch.tokens]


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
