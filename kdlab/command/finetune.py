"""`kdlab finetune`: one model on one task."""

from __future__ import annotations

from omegaconf import DictConfig

from kdlab.config.job import current
from kdlab.fit.display import interrupted as interrupted
from kdlab.fit.job import run_job


def main(cfg: DictConfig) -> float | None:
    return run_job(current("finetune", cfg))
