"""A hand-written loop with a live teacher, as in PyTorch's knowledge distillation tutorial.

Documented: fixed padding, float32, AdamW as it comes. Best: dynamic padding and batches of like length, bfloat16, fused
AdamW.
"""

from __future__ import annotations

import torch

from tests.benchmarks.peer.work import Batches, Work, run, warmup_linear


def train(work: Work) -> dict[str, float]:
    args, student = work.args, work.student
    batches = Batches(work.train, args.batch_size, args.seed, fixed=not work.best, grouped=work.best)
    optimizer = work.adamw()
    scheduler = warmup_linear(optimizer, work.steps)
    for _ in range(args.epochs):
        for batch in batches:
            batch = {name: value.to(work.device) for name, value in batch.items()}
            labels = batch.pop("labels")
            with work.autocast():
                with torch.no_grad():
                    taught = work.teacher(**batch).logits
                logits = student(**batch).logits
            loss = work.loss(logits, taught, labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
    return {}


if __name__ == "__main__":
    run("plain_torch", train)
