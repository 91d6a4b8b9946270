"""A hand-written loop whose author also wrote a cache: the teacher's logits are kept in memory for the run's epochs.

Only at its best; no documentation shows it. The teacher reads large batches sorted by length, once a process.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.peer.work import Work, run, warmup_linear

TOKENS = 4096  # a batch of the teacher


@torch.inference_mode()
def taught(work: Work) -> Tensor:
    """The teacher's logits ``[N, C]`` of all training rows."""
    lengths = work.train.lengths
    order, start, parts = np.argsort(-lengths, kind="stable"), 0, []
    while start < len(order):
        index = order[start : start + max(1, TOKENS // int(lengths[order[start]]))]
        batch = {name: value.to(work.device) for name, value in work.train.batch(index, fixed=False).items()}
        batch.pop("labels")
        with work.autocast():
            parts.append(work.teacher(**batch).logits.float())
        start += len(index)
    logits = torch.cat(parts)
    return torch.empty_like(logits).index_copy_(0, torch.from_numpy(order).to(logits.device), logits).clone()


def train(work: Work) -> dict[str, float]:
    args, student = work.args, work.student
    begun = time.perf_counter()
    targets = taught(work)
    seconds = time.perf_counter() - begun
    optimizer = work.adamw()
    scheduler = warmup_linear(optimizer, work.steps)
    for epoch in range(args.epochs):
        for index in work.train.shuffled(args.batch_size, 1000 * args.seed + epoch, grouped=True):
            batch = {name: value.to(work.device) for name, value in work.train.batch(index, fixed=False).items()}
            labels = batch.pop("labels")
            with work.autocast():
                logits = student(**batch).logits
            loss = work.loss(logits, targets[torch.from_numpy(index)], labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
    return {"teacher_seconds": seconds}


if __name__ == "__main__":
    run("plain_torch_cached", train)
