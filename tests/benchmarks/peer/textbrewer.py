"""TextBrewer 0.2.1: ``GeneralDistiller`` as its examples set it up, and ``BasicDistiller`` with its cache.

Its ``ce`` loss has the gradient of KL and no T^2, so the weight carries that factor. Best: dynamic padding, batches of
like length, bfloat16 around both models' forward, fused AdamW, and ``is_caching_logits``, which keeps the batches and
their logits of the first pass in memory and reuses these very batches in every epoch.
"""

from __future__ import annotations

import logging
import tempfile
from typing import Any

from textbrewer import BasicDistiller, DistillationConfig, GeneralDistiller, TrainingConfig

from tests.benchmarks.peer.work import Batches, Work, run, under, warmup_linear


def adaptor(batch: Any, outputs: Any) -> dict[str, Any]:
    return {"logits": (outputs.logits.float(),), "losses": (outputs.loss,)}


def train(work: Work) -> dict[str, float]:
    logging.disable(logging.INFO)
    args = work.args
    batches = Batches(work.train, args.batch_size, args.seed, fixed=not work.best, grouped=work.best)
    if work.best:
        under(work.teacher, work.autocast)
        under(work.student, work.autocast)
    goal = DistillationConfig(
        temperature=args.temperature,
        hard_label_weight=1 - args.alpha,
        kd_loss_weight=args.alpha * args.temperature**2,
        kd_loss_type="ce",
        is_caching_logits=work.best,
    )
    optimizer = work.adamw()
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingConfig(device=args.device, output_dir=folder, log_dir=None)
        kind = BasicDistiller if work.best else GeneralDistiller
        distiller = kind(settings, goal, work.teacher, work.student, adaptor, adaptor)
        with distiller:
            distiller.train(
                optimizer,
                batches,
                num_epochs=args.epochs,
                scheduler_class=warmup_linear,
                scheduler_args={"steps": work.steps},
                max_grad_norm=1.0,
            )
    return {}


if __name__ == "__main__":
    run("textbrewer", train)
