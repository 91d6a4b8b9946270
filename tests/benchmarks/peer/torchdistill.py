"""torchdistill 1.1.5: ``DistillationBox`` with a forward hook on the classifier, as its GLUE configurations.

Those pad dynamically and use AdamW as it comes, so its documented column does too. Its own script passes no targets,
for which ``KDLoss`` drops the labels, alpha and T^2; here the targets are passed, so that the work is everyone's. Best
adds batches of like length, bfloat16 and fused AdamW. Its cache of teacher outputs was removed.
"""

from __future__ import annotations

import tests.benchmarks.peer.torchvision_shim  # noqa: F401  first: torchdistill imports torchvision

# isort: split
import logging
from typing import Any

import torch
from torch import nn
from torchdistill.core.distillation import DistillationBox
from torchdistill.core.interfaces.forward_proc import register_forward_proc_func
from torchdistill.losses import mid_level  # noqa: F401  registers the losses
from torchdistill.optim.registry import register_scheduler

from tests.benchmarks.peer.work import Batches, Rows, Work, run, under, warmup_linear


@register_forward_proc_func
def logits_of(model: nn.Module, batch: Any, targets: Any = None, supp_dict: Any = None, **_: Any) -> Any:
    return model(**batch).logits


register_scheduler(warmup_linear)


class Order(torch.utils.data.Sampler):
    """The rows of each epoch, one after the other, in the order of the other peers' batches."""

    def __init__(self, rows: Rows, batches: Batches) -> None:
        self.rows, self.batches, self.epoch = rows, batches, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Any:
        own = self.batches
        plan = self.rows.shuffled(own.size, 1000 * own.seed + self.epoch, own.grouped)
        short = [index for index in plan if len(index) < own.size]  # last, or every later batch would straddle two
        self.epoch += 1
        return (int(row) for index in [each for each in plan if len(each) == own.size] + short for row in index)


def configuration(work: Work) -> dict[str, Any]:
    args = work.args
    batches = Batches(work.train, args.batch_size, args.seed, fixed=False, grouped=work.best)

    def collate(places: list[int]) -> tuple[dict[str, Any], Any]:
        batch = work.train.batch(places, fixed=False)
        labels = batch.pop("labels")
        return {name: value.to(work.device) for name, value in batch.items()}, labels.to(work.device)

    side = {"forward_proc": "logits_of", "sequential": [], "wrapper": None, "frozen_modules": []}
    hook = {"forward_hook": {"input": [], "output": ["classifier"]}}
    loss = {
        "key": "KDLoss",
        "kwargs": {
            "student_module_path": "classifier", "student_module_io": "output",
            "teacher_module_path": "classifier", "teacher_module_io": "output",
            "temperature": args.temperature, "alpha": 1 - args.alpha, "reduction": "batchmean",
        },
    }  # fmt: skip
    return {
        "num_epochs": args.epochs,
        "train_data_loader": {
            "dataset_id": "train", "requires_supp": False, "collate_fn": collate,
            "sampler": {"class_or_func": lambda data: Order(work.train, batches), "kwargs": {}},
            "kwargs": {"batch_size": args.batch_size, "num_workers": 0},
        },
        "val_data_loader": {"dataset_id": None},
        "teacher": side | hook | {"requires_grad": False},
        "student": side | hook | {"requires_grad": True},
        "optimizer": {
            "key": "AdamW", "max_grad_norm": 1.0, "grad_accum_step": 1,
            "kwargs": {"lr": args.lr, "weight_decay": 0.01} | ({"fused": True} if work.best else {}),
        },
        "scheduler": {"key": "warmup_linear", "kwargs": {"steps": work.steps}, "scheduling_step": 1},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"weight": 1.0, "criterion": loss}}}},
    }  # fmt: skip


def train(work: Work) -> dict[str, float]:
    logging.disable(logging.INFO)
    settings = configuration(work)
    collate = settings["train_data_loader"]["collate_fn"]
    settings["train_data_loader"]["collate_fn"] = None  # a name in its registry, or nothing
    if work.best:
        under(work.teacher, work.autocast)
        under(work.student, work.autocast)
    rows = {"train": list(range(len(work.train)))}
    box = DistillationBox(work.teacher, work.student, rows, settings, work.device, None, False, 1)
    box.train_data_loader.collate_fn = collate
    for epoch in range(work.args.epochs):
        box.pre_epoch_process(epoch=epoch)
        for batch, labels in box.train_data_loader:
            loss = box.forward_process(batch, targets=labels, supp_dict=None)
            box.post_forward_process(loss=loss)
        box.post_epoch_process()
    box.clean_modules()
    return {}


if __name__ == "__main__":
    run("torchdistill", train)
