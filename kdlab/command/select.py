"""The data of a job, with the labels that trained models think worth having."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kdlab.command import build
from kdlab.command.find import check, read_by
from kdlab.command.teacher import named
from kdlab.teacher.cached import Cached


def data(cfg: DictConfig) -> Any:
    """The datamodule, set up; where it selects actively, the models that it names were asked, once for all runs."""
    module = build.data(cfg)
    if module.select is None:
        return module
    task, outputs = build.task(cfg, module), Path(cfg.outputs)
    said = []
    for run in module.select.runs:
        trained = named(run, outputs)
        check(trained, module)
        told = Cached(trained, task, read_by(trained, module, ()), (), outputs / "store")
        said.append(told.store.gather("logits", module.used, 0))
    module.choose(module.select.score(said))
    return module
