"""How fast is a distillation step with stored targets, against labels alone and against a bare loop?

All three train the same student on the same batches in the same precision with the same optimizer and clipping, block
after block in one process. kdlab's steps are those of its command, logging included; the bare loop logs nothing.
"""

from __future__ import annotations

import copy
import time
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from tests.benchmarks import machine, setting
from tests.benchmarks.block import Block, block
from tests.benchmarks.clock import step_seconds
from tests.benchmarks.option import on, options
from tests.benchmarks.ratio import interleaved, ratios, spread


class Bare:
    """A hand-written loop over the batches of a prepared distillation, its targets by plain indexing."""

    def __init__(self, whole: Block, device: str) -> None:
        self.whole, self.device = whole, device
        self.model = copy.deepcopy(whole.ready.learner.model).to(device)
        index = whole.data.splits["train"]
        self.targets = torch.zeros(len(whole.data.lengths), len(whole.data.labels), device=device)
        task, teacher = whole.ready.learner.task, whole.ready.learner.teacher
        for start in range(0, len(index), 256):
            batch = whole.data.encoded.batch(index[start : start + 256])
            self.targets[batch.row] = teacher.read(task, batch).logits.float().to(device)

    def autocast(self) -> Any:
        if self.whole.precision.startswith("bf16"):
            return torch.autocast(torch.device(self.device).type, torch.bfloat16)
        return nullcontext()

    def fit(self) -> list[float]:
        """The wall time of each step's end."""
        from kdlab.config import build, instantiate

        cfg = self.whole.made.cfg
        t, alpha, clip = cfg.loss.temperature, cfg.loss.alpha, cfg.trainer.gradient_clip_val
        optimizer = build.optimizer(cfg.optimizer)(list(self.model.parameters()))
        schedule, model, ends = instantiate.make(cfg.scheduler), self.model.train(), []
        batches = self.whole.data.train_dataloader()
        factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(min(1.0, step / len(batches))))
        for batch in batches:
            moved = batch.to(self.device, non_blocking=True).inputs
            label, taught = batch.target["label"].to(self.device), self.targets[batch.row]
            with self.autocast():
                logits = model(**moved).logits
            logits = logits.float()
            divergence = kl_div(log_softmax(logits / t, -1), softmax(taught / t, -1), reduction="batchmean") * t * t
            loss = (1 - alpha) * cross_entropy(logits, label) + alpha * divergence
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            factor.step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.time())
        return ends


def measure(rows: int, repeats: int, student: str = "bert_tiny", device: str = "cpu") -> dict[str, Any]:
    shared = setting.common(setting.teacher(), rows, epochs=1) + setting.STUDENTS[student] + on(device)
    with setting.composing():
        distill = block("distill", *shared, "loss=kd")
        labels = block("labels", *shared, "loss=ce")
        distill.fit()  # warms up, and tells the precision
        bare = Bare(distill, device)
        runs = {
            "distill": lambda: distill.fit()[0],
            "labels": lambda: labels.fit()[0],
            "bare": bare.fit,
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _, name in interleaved(list(runs), repeats):
            seconds[name].append(step_seconds(runs[name]()))
    return {
        "rows": rows,
        "student": student,
        "precision": distill.precision,
        "threads": torch.get_num_threads(),
        "step_ms": {name: spread([1000 * one for one in values]).plain() for name, values in seconds.items()},
        "speed_against_labels": ratios(seconds["labels"], seconds["distill"]).plain(),
        "speed_against_bare": ratios(seconds["bare"], seconds["distill"]).plain(),
    }


def main() -> None:
    args = options(__doc__, repeats=5)
    found = measure(args.rows, args.repeats, args.student, args.device)
    for name, aim in (("labels", 0.95), ("bare", 0.95)):
        ratio = found[f"speed_against_{name}"]
        print(f"distillation step: {ratio['median']:.3f} of the speed of {name} (aim {aim}; {ratio['least']:.3f} to "
              f"{ratio['most']:.3f})")  # fmt: skip
    machine.write("step", found)


if __name__ == "__main__":
    main()
