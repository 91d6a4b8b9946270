"""From a composed config to what a run is made of: data, task, models, evaluators, transforms, optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torchmetrics import MetricCollection

from kdlab.config.instantiate import factory, make, make_a, takes_any, target_of
from kdlab.datamodule.corpus import PAIR
from kdlab.datamodule.data import Data
from kdlab.datamodule.target import CLASS
from kdlab.error import UserError
from kdlab.freeze.apply import scales_at, select
from kdlab.freeze.base import Freeze
from kdlab.metric.base import Evaluator
from kdlab.metric.evaluators import Evaluators
from kdlab.metric.scores import Scores
from kdlab.model.block import blocks
from kdlab.model.examples import Examples
from kdlab.outcome import Bernoulli, Outcome, Real
from kdlab.schedule.base import Schedule, bounds
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher
from kdlab.transform.base import Transform
from kdlab.transform.sequence import Transforms


def data(cfg: DictConfig) -> Data:
    """The datamodule, set up: labels, tokenizer and splits are known."""
    if (ready := _ahead.pop(_read(cfg), None)) is not None:
        return ready
    module = make_a(Data, cfg.datamodule)
    module.asked = asked(cfg)
    module.prepare_data()
    module.setup("fit")
    return module


def asked(cfg: DictConfig) -> str:
    """What an answer is to the task of a config: see :attr:`kdlab.task.base.Task.answers`."""
    return str(getattr(target_of(cfg.task), "answers", CLASS)) if "task" in cfg else CLASS


def _read(cfg: DictConfig) -> str:
    """All that decides what the data of a config holds."""
    return f"{asked(cfg)}\n{OmegaConf.to_yaml(cfg.datamodule, resolve=True)}"


_ahead: dict[str, Any] = {}  # by its config, the data module that waits for the one job of a process that takes it


def read_ahead(cfg: DictConfig) -> Any:
    """Set up the datamodule now, for forks of this process: each finds it as if it had read it itself."""
    ready = data(cfg)
    _ahead.clear()  # a search launches many batches, each with data of its own
    _ahead[_read(cfg)] = ready
    return ready


def task(cfg: DictConfig, data: Data) -> Task:
    """The task, prepared with the label names of the data."""
    given = {"multi_label": True} if data.multi_label and "multi_label" in cfg.task else {}
    task = make_a(Task, cfg.task, **given)
    task.check_data(data)
    if task.uses_labels:
        data.check_labels()
    several = isinstance(task.outcome, Bernoulli)
    if several != data.multi_label and task.uses_labels:
        of_data = str(data.multi_label).lower()
        raise UserError(
            f"task.multi_label={str(several).lower()}, but the data has datamodule.multi_label={of_data}: set "
            "the latter only, and the task follows"
        )
    task.prepare(data.labels, data.label_counts)
    return task


def model(node: DictConfig, task: Task, data: Data, teacher: nn.Module | None = None) -> nn.Module:
    """A model with the task's head.

    A factory that has an argument of this name is given also ``teacher``, the teacher's model; ``task``, the kind of
    task; ``examples``, labelled training rows, see :func:`examples`.
    """
    given: dict[str, Any] = {"labels": list(data.labels), **data.processor.arguments()}
    if needs_teacher(node):
        if teacher is None:
            raise UserError(
                f"{str(node._target_).rpartition('.')[2]} is made of a teacher's layers, and there is no trained "
                "teacher to make it of: choose a model of its own, such as model@student=bert_tiny in `kdlab distill` "
                "or model=minilm_l6 in `kdlab finetune`"
            )
        given["teacher"] = teacher
    takes = inspect.signature(get_object(node._target_)).parameters
    needed = ["labels", *data.processor.arguments()]
    for name in needed:
        if name not in takes and not takes_any(takes):
            raise UserError(
                f"{node._target_} has no argument '{name}': what makes a model of this data is given "
                f"{' and '.join(needed)}: choose another model, or add them: "
                f"def {str(node._target_).rpartition('.')[2]}(…, {', '.join(needed)})"
            )
    offers: dict[str, Callable[[], Any]] = {"task": lambda: task.kind, "examples": lambda: examples(data)}
    given |= {name: offer() for name, offer in offers.items() if name in takes}
    if "task" not in takes and not task.uses_labels:
        raise UserError(
            f"{node._target_} makes a classifier, but the task is to predict the next token: choose model=gpt_tiny, "
            "layers_of_teacher, or hf with a causal language model"
        )
    made = _reads(make_a(nn.Module, factory(node), **given), data.processor.inputs)
    data.processor.check(made, data.lengths)
    return task.attach(made)


def examples(data: Data) -> Examples:
    """The labelled training rows whose content is in no split that is measured.

    Raises:
        UserError: a row is no text, or has several labels.
    """
    measured = {data.keys[row] for split in ("val", "test") for row in data.splits[split].tolist()}
    train = data.splits["train"].tolist() if not data.whole else []
    if data.multi_label or data.target.unit != "row" or not all(isinstance(value, str) for value in data.values):
        raise UserError(
            f"{data.source} has rows that are no text with one label, which the model reads: choose another"
        )
    if data.values and PAIR in data.values[0]:
        raise UserError(
            "datamodule.text_column names two columns, and the model reads one text: join them with a template, such "
            "as '{first} {second}'"
        )
    kept = [row for row in train if data.codes[row] >= 0 and data.keys[row] not in measured]
    length = getattr(data, "max_length", None)
    texts, codes = [data.values[row] for row in kept], [int(data.codes[row]) for row in kept]
    return Examples(texts, codes, **({} if length is None else {"max_length": length}))


def _reads(model: nn.Module, inputs: Sequence[str]) -> nn.Module:
    """The model, after a look at whether it can be called with the inputs."""
    takes = inspect.signature(model.forward).parameters
    if not set(inputs) <= set(takes) and not takes_any(takes):
        raise UserError(
            f"{type(model).__name__} has no method forward({', '.join(inputs)}): add one that returns the logits"
        )
    return model


def student(cfg: DictConfig, task: Task, data: Data, teacher: nn.Module | None) -> nn.Module:
    """The student of a distillation.

    Args:
        teacher: the model of its teacher; None where that is no single one. A student that is made of its teacher then
            begins with ``teacher.model``, as it was before it learned the task.
    """
    if teacher is None and needs_teacher(cfg.student) and "model" in cfg.teacher:
        teacher = model(cfg.teacher.model, task, data)
    return model(cfg.student, task, data, teacher=teacher)


def evaluators(nodes: DictConfig, task: Task, labels: Sequence[str] = ("no", "yes")) -> Evaluators:
    """What is measured on the splits: the list ``metric``.

    Raises:
        UserError: one does not fit the task, or two measure something of the same name.
    """
    return Evaluators({name: _evaluator(name, node, task, labels) for name, node in metric_nodes(nodes).items()})


def metric_nodes(nodes: DictConfig) -> dict[str, DictConfig]:
    """The nodes of the list ``metric``, by name; an option of one's own may be one without a name."""
    if "_target_" not in nodes:
        return {str(name): node for name, node in nodes.items() if node is not None}
    if others := [str(name) for name in nodes if OmegaConf.is_dict(nodes[name]) and "_target_" in nodes[name]]:
        raise UserError(
            f"metric has {nodes._target_} beside {', '.join(others)}: in a list the option's settings stand under a "
            "name, so write NAME: above them in its YAML, and indent them"
        )
    return {str(nodes._target_).rpartition(".")[2]: nodes}


def _evaluator(name: str, node: DictConfig, task: Task, labels: Sequence[str]) -> Evaluator:
    takes = inspect.signature(get_object(node._target_)).parameters
    given = {"labels": list(labels), "multi_label": isinstance(task.outcome, Bernoulli)}
    given = {key: value for key, value in given.items() if key in takes}
    found = make(node, **given)
    if isinstance(found, Evaluator):
        found.accept(task)
        return found
    found = found() if node.get("_partial_") and not given else found
    if ("labels" in takes) != task.uses_labels or not isinstance(task.outcome, getattr(found, "outcome", Outcome)):
        raise UserError(
            f"metric={name} does not measure what task={task.option()} predicts: choose metric=[{_fitting(task)},cost]"
        )
    if not isinstance(found, MetricCollection):
        raise UserError(
            f"{node._target_} returns a {type(found).__name__}, but metric needs a torchmetrics.MetricCollection: "
            "put it into one, by name, or write an Evaluator of kdlab.metric.base"
        )
    return Scores(found)


def _fitting(task: Task) -> str:
    """The evaluators that measure what a task predicts."""
    if isinstance(task.outcome, Real):
        return "regression,number_fidelity"
    return f"{'classification' if task.uses_labels else 'causal_lm'},fidelity"


def transforms(cfg: DictConfig) -> Transforms:
    """The transforms of a run: ``peft`` first, then those of the list ``transform``.

    Raises:
        UserError: one does not work with the trainer.
    """
    found = Transforms({key: transform(key, node) for key, node in transform_nodes(cfg).items()})
    if "trainer" in cfg:  # the part of a stored run that a model is built of has none
        strategy = OmegaConf.select(cfg, "trainer.strategy._target_", default="")
        found.check(split=str(strategy).endswith(".ModelParallelStrategy"), compiled=cfg.compile)
    return found


def transform_nodes(cfg: DictConfig) -> dict[str, DictConfig]:
    """The nodes of the transforms of a config, by key; runs that were stored before there was a list have none."""
    listed = cfg.transform if "transform" in cfg else {}
    return {"peft": cfg.peft} | {f"transform.{name}": node for name, node in listed.items() if node is not None}


def transform(key: str, node: DictConfig) -> Transform:
    """One transform; what is wrong with its values is named by their keys."""
    try:
        return make_a(Transform, node)
    except UserError as problem:
        if str(problem).split("=")[0].split(" ")[0] not in node:
            raise
        raise UserError(f"{key}.{problem}") from problem


def transformed(cfg: DictConfig, transforms: Transforms, model: nn.Module, data: Data) -> nn.Module:
    """The model with its transforms attached.

    Raises:
        UserError: the model lacks what one needs, or ``freeze`` lets nothing learn at any time of what one adds.
    """
    policy: Freeze = make(cfg.freeze)
    known = {id(parameter) for parameter in model.parameters()}

    def look(key: str, model: nn.Module) -> None:
        own = {id(parameter) for parameter in model.parameters() if parameter.requires_grad} - known
        known.update(own)
        if own and not own & _learning(policy, model):
            part = transforms.parts[key]
            name = f"{key}={type(part).__name__.lower()}" if key == "peft" else f"{key} ({type(part).__name__})"
            raise UserError(
                f"freeze={type(policy).__name__.lower()} lets nothing learn of what {name} adds to the model: set "
                "freeze=none (peft keeps the model's own weights below the head as they are), or leave it out "
                "(peft=none)"
            )

    return transforms.attach(model, data, look)


def _learning(policy: Freeze, model: nn.Module) -> set[int]:
    """The ids of the parameters that learn at the begin, in the middle or at the end of a run."""
    cut = select(policy, model, blocks(model))
    return {
        id(parameter)
        for moment in (0.0, 0.5, 1.0)
        for block, scale in zip(cut, scales_at(policy, cut, moment), strict=True)
        for parameter in block.learnable
        if scale
    }


def optimizer(node: DictConfig) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer, still without parameters; tried on one number, since some settings are only looked at then."""
    factory = make(node)
    try:
        factory([nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError, RuntimeError) as problem:
        raise UserError(f"{node._get_full_key(None)} ({node._target_}): {problem}") from problem
    return factory


def scheduler(node: DictConfig) -> Schedule:
    """The factor of the learning rate over the run.

    Raises:
        UserError: it falls below 0, where a step would go uphill.
    """
    schedule: Schedule = make(node)
    low, _ = bounds(schedule, "scheduler")
    if low < 0:
        raise UserError(
            f"scheduler goes down to {low:g}: set its start, end and values (scheduler.then.end=0) from 0 up"
        )
    return schedule


def needs_teacher(node: DictConfig) -> bool:
    """Whether a model's factory has an argument named ``teacher``."""
    return "teacher" in inspect.signature(target_of(node)).parameters


def teacher_kinds(node: DictConfig) -> list[type[Teacher]]:
    """The class that a teacher node names, and those of its members."""
    members = node.members.values() if "members" in node else ()
    return [teacher_kind(one) for one in (node, *members)]


def teacher_kind(node: DictConfig) -> type[Teacher]:
    """The class that a teacher node names, before there is a teacher."""
    kind = get_object(node._target_)
    return kind if isinstance(kind, type) and issubclass(kind, Teacher) else Teacher
