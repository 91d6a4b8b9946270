"""Hugging Face's Trainer with ``compute_loss`` of one's own, as in its knowledge distillation guide.

Documented: fixed padding, float32, and the Trainer's own default optimizer (fused AdamW). Best: dynamic padding, its
own grouping by length, bf16. It has no cache of a teacher's outputs.
"""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments, default_data_collator

from tests.benchmarks.peer.work import Rows, Work, has_bfloat16, run


class Distiller(Trainer):
    def __init__(self, work: Work, **named: Any) -> None:
        super().__init__(**named)
        self.work = work

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any) -> Any:
        labels = inputs.pop("labels")
        with torch.no_grad():
            taught = self.work.teacher(**inputs).logits
        outputs = model(**inputs)
        loss = self.work.loss(outputs.logits, taught, labels)
        return (loss, outputs) if return_outputs else loss


def collate(rows: list[dict[str, Tensor]], pad: int) -> dict[str, Tensor]:
    """Pad rows without padding to the longest of the batch."""
    whole = Rows(
        [row["input_ids"].numpy() for row in rows], torch.stack([row["labels"] for row in rows]).numpy(), pad, 0
    )
    return whole.batch(range(len(rows)), fixed=False)


def train(work: Work) -> dict[str, float]:
    args = work.args
    better: dict[str, Any] = {}
    if work.best:
        better = {"train_sampling_strategy": "group_by_length", "bf16": has_bfloat16(args.device)}
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, num_train_epochs=args.epochs, per_device_train_batch_size=args.batch_size,
            learning_rate=args.lr, lr_scheduler_type="linear", warmup_steps=0.1, weight_decay=0.01,
            save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=args.device == "cpu", seed=args.seed,
            remove_unused_columns=False, **better,
        )  # fmt: skip
        trainer = Distiller(
            work,
            model=work.student,
            args=settings,
            train_dataset=work.train.padded(fixed=not work.best),
            data_collator=partial(collate, pad=work.train.pad) if work.best else default_data_collator,
        )
        trainer.train()
    return {}


if __name__ == "__main__":
    run("hf_trainer", train)
