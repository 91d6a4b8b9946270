"""Small distillations of language models in this process: the teacher is a saved model with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from small import crossed, knob, nodes, shrink, small

from kdlab.config import build
from kdlab.config.job import Job
from kdlab.model.gpt import gpt
from kdlab.model.save import save
from kdlab.plan import distill


def language(folder: Path, texts: Path, *words: str) -> Job:
    """A distillation between tiny language models of random weights, by sgd; needs ``initialize_config_dir``."""
    known = ["datamodule=table", f"datamodule.path={texts}", "datamodule.label_column=null", f"outputs={folder}"]
    known += ["task=causal_lm", "metric=[causal_lm,fidelity]", "model@student=gpt_tiny"]
    base = small("distill", [*known, *words])
    base = knob(crossed(base, student=shrink(base.cfg.student)), "trainer.gradient_clip_val=null")
    base.cfg.optimizer = nodes("optimizer")["optimizer"]["sgd"]
    base.cfg.optimizer.lr = 1.0
    if "run" in base.cfg.teacher:
        base.cfg.teacher.run = str(language_teacher(base, folder / "teacher"))
    return base


def language_teacher(job: Job, folder: Path) -> Path:
    """A model directory with random weights, bigger than the student."""
    if folder.exists():
        return folder
    data = build.data(job.cfg)
    task = build.task(job.cfg, data)
    torch.manual_seed(1)
    model = task.attach(gpt(24, 3, 2, 32, 0.0, 64, tokenizer=data.tokenizer, labels=[], task="causal_lm"))
    for parameter in model.parameters():
        parameter.data *= 3  # random weights of the usual scale predict the same everywhere
    return save(model, data.tokenizer, folder)


def learner(job: Job):
    """The rule of a job, outside of a training, and its first batch."""
    torch.manual_seed(job.cfg.seed)
    data = build.data(job.cfg)
    rule = distill.prepare(job, data).learner
    rule.log_values = lambda values, batch=None: None
    return rule, next(iter(data.train_dataloader()))
