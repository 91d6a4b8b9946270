"""Small whole trainings in this process: composed by Hydra, built as the commands build them, a few steps each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from lightning.pytorch import Callback
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from kdlab.artifact import select
from kdlab.config import build, conf, instantiate
from kdlab.config.job import Job, composed
from kdlab.model.bert import bert
from kdlab.model.save import save
from kdlab.module.base import TrainingRule
from kdlab.plan import distill, finetune

TOKENIZER = "train:wordpiece:200"
SIZE = {
    "hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 32, "width": 16, "embedding_size": 8,
    "dropout": 0.0, "max_length": 64, "tokenizer": TOKENIZER,
}  # fmt: skip
STEPS = [
    "trainer.max_epochs=-1", "trainer.max_steps=3", "trainer.precision=32-true", "datamodule.batch_size=16",
    "logger=none",
]  # fmt: skip


@dataclass
class Trained:
    """What a training left.

    Attributes:
        before, after: the student's weights, by name.
        steps: its weights after each optimizer step.
        losses: ``train/loss`` of each micro-batch.
        logged: what was logged last, by name.
    """

    learner: TrainingRule
    before: dict[str, Tensor]
    after: dict[str, Tensor] = field(default_factory=dict)
    steps: list[dict[str, Tensor]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    logged: dict[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return any(not torch.equal(self.before[name], self.after[name]) for name in self.before)


def shrink(node: DictConfig, path: Path | str | None = None) -> DictConfig:
    """A model option at a tiny size, whatever model it is: its keys that say a size; ``path`` for its weights."""
    node, keys = node.copy(), set(map(str, node))  # `in node` denies a key whose value is ???
    if "inner" in keys:
        node.inner = shrink(node.inner, path)
    for key, value in SIZE.items():
        if key in keys and (key != "layers" or isinstance(node[key], int)):
            node[key] = value
    if OmegaConf.is_list(node.get("layers")):
        node.layers = [0, 1]
    if "path" in keys:
        node.path, node.dropout = str(path), None
    return node


def tiny_teacher(job: Job, folder: Path, seed: int = 1) -> Path:
    """A model directory with random weights that fits the data and the task of ``job``; bigger than the students."""
    data = build.data(job.cfg)
    task = build.task(job.cfg, data)
    torch.manual_seed(seed)
    model = task.attach(bert(24, 3, 2, 32, dropout=0.0, max_length=64, tokenizer=data.tokenizer, labels=data.labels))
    for parameter in model.parameters():
        parameter.data *= 4  # random weights of the usual scale say the same of every text
    return save(model, data.tokenizer, folder)


def train(job: Job, *callbacks: Callback) -> Trained:
    """Prepare a job as its command does and fit it with its own trainer, without validation, checkpoints or logs."""
    torch.manual_seed(job.cfg.seed)
    data = select.data(job.cfg)
    prepare = {"distill": distill.prepare, "finetune": finetune.prepare}[job.command]
    plan = prepare(job, data)
    learner = plan.learner
    result = Trained(learner, weights(learner))
    trainer = instantiate.make(
        job.cfg.trainer, callbacks=[_Watch(result), *callbacks], logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0, default_root_dir=str(job.folder),
    )  # fmt: skip
    trainer.fit(learner, datamodule=plan.data or data)
    result.after = weights(learner)
    return result


def weights(learner: TrainingRule) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learner.model.state_dict().items()}


class _Watch(Callback):
    def __init__(self, result: Trained) -> None:
        self.result = result
        self.done = 0

    def on_train_batch_end(self, trainer: Any, learner: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.result.losses.append(float(learner.last_logged["train/loss"]))
        self.result.logged = {name: float(value) for name, value in learner.last_logged.items()}
        if trainer.global_step > self.done:
            self.done = trainer.global_step
            self.result.steps.append(weights(learner))


def options(group: str) -> list[str]:
    """The names of a group's options, from disk."""
    return sorted(path.stem for path in (conf() / group).glob("*.yaml"))


def nodes(*groups: str) -> dict[str, dict[str, DictConfig]]:
    """Every option of the groups as it is composed, by group and name, all in one go; interpolations stay."""
    words = [f"+{group}@all.g{number}.{name}={name}" for number, group in enumerate(groups) for name in options(group)]
    everything = compose("runs", words).all
    return {group: dict(everything[f"g{number}"].items()) for number, group in enumerate(groups)}


def crossed(base: Job, **nodes: DictConfig) -> Job:
    """``base`` with other nodes in the place of its own: composing every combination would take Hydra minutes."""
    cfg = base.cfg.copy()
    for name, node in nodes.items():
        cfg[name] = node
    return Job(base.command, base.folder, cfg, base.choices, base.overrides)


def live(job: Job) -> Job:
    """The job, changed in place: its stored teacher runs on every batch."""
    job.cfg.teacher._target_ = "kdlab.teacher.live.Live"
    del job.cfg.teacher.tokens_per_batch, job.cfg.teacher.dtype, job.cfg.teacher.top_k_dtype
    return job


def knob(base: Job, *words: str) -> Job:
    """``base`` with keys set, ``key=value`` as on a command line; a key that is not there is an error."""
    cfg = base.cfg.copy()
    for word in words:
        key, _, value = word.partition("=")
        parent, _, name = key.rpartition(".")
        if name not in (OmegaConf.select(cfg, parent) if parent else cfg):
            raise KeyError(key)
        OmegaConf.update(cfg, key, OmegaConf.create(f"v: {value}").v, merge=False)
    return Job(base.command, base.folder, cfg, base.choices, base.overrides)


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def small(command: str, words: Sequence[str], **nodes: Any) -> Job:
    """A job on tiny models and three steps, composed by Hydra; needs ``initialize_config_dir``."""
    student = ["model@student=bert_tiny"] if command == "distill" else []  # which a word may replace
    return composed(command, [*student, *words, *STEPS], **nodes)
