"""How much of the machine does a distillation step use, and how much of the step is the student's own?

Samples and tokens a second; the student's floating-point operations, forward and backward, against what the machine
reaches in one large matrix product of the same precision; and a bare loop's step, which asks no teacher, against
kdlab's with stored targets and with a live teacher.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks import machine, setting
from tests.benchmarks.block import Block, block
from tests.benchmarks.clock import step_seconds
from tests.benchmarks.option import on, options
from tests.benchmarks.ratio import interleaved, spread
from tests.benchmarks.step import Bare

SIZES = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is the machine's limit


def limit(device: str, precision: str, size: int | None = None) -> float:
    """Floating-point operations a second of one large matrix product, the best of ten."""
    kind = torch.device(device).type
    size, dtype = size or SIZES[kind], torch.bfloat16 if precision.startswith("bf16") else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(11):
        wait(kind)
        begun = time.perf_counter()
        left @ right
        wait(kind)
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def wait(kind: str) -> None:
    if kind == "cuda":
        torch.cuda.synchronize()


def work(whole: Block) -> dict[str, float]:
    """What an epoch is: its ``steps``, ``rows``, ``tokens`` without padding, and ``operations`` of the student."""
    model, found = copy.deepcopy(whole.ready.learner.model).cpu().train(), dict.fromkeys(("steps", "rows", "tokens"), 0)
    with FlopCounterMode(display=False) as counter:
        for batch in whole.data.train_dataloader():
            model(**batch.inputs).logits.sum().backward()
            found["steps"] += 1
            found["rows"] += len(batch.row)
            found["tokens"] += int(batch.tokens.sum())
    return found | {"operations": counter.get_total_flops()}


def measure(rows: int, repeats: int, student: str = "bert_tiny", device: str = "cpu") -> dict[str, Any]:
    shared = setting.common(setting.teacher(), rows, epochs=1) + setting.STUDENTS[student] + on(device)
    with setting.composing():
        kinds = {kind: block(kind, *shared, f"teacher={kind}") for kind in ("cached", "live")}
        kinds["cached"].fit()  # warms up, and tells the precision
        epoch, precision = work(kinds["cached"]), kinds["cached"].precision
        bare = Bare(kinds["cached"], device)
        runs = {kind: lambda one=one: one.fit()[0] for kind, one in kinds.items()} | {"bare": bare.fit}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _, name in interleaved(list(runs), repeats):
            seconds[name].append(step_seconds(runs[name]()))
    step = {name: spread(values).median for name, values in seconds.items()}
    most = limit(device, precision)
    return {
        "student": student, "precision": precision, "threads": torch.get_num_threads(), "epoch": epoch,
        "limit_operations_per_second": most,
        "step_ms": {name: spread([1000 * one for one in values]).plain() for name, values in seconds.items()},
        "samples_per_second": {name: epoch["rows"] / epoch["steps"] / one for name, one in step.items()},
        "tokens_per_second": {name: epoch["tokens"] / epoch["steps"] / one for name, one in step.items()},
        "utilisation": {name: epoch["operations"] / epoch["steps"] / one / most for name, one in step.items()},
        "students_own": {name: step["bare"] / one for name, one in step.items()},
    }  # fmt: skip


def main() -> None:
    args = options(__doc__)
    found = measure(args.rows, args.repeats, args.student, args.device)
    print(f"limit: {found['limit_operations_per_second'] / 1e12:.2f} TFLOP/s in {found['precision']}")
    for name in found["step_ms"]:
        print(
            f"{name:<7} {found['step_ms'][name]['median']:.1f} ms a step, {found['samples_per_second'][name]:,.0f} "
            f"samples/s, {found['tokens_per_second'][name]:,.0f} tokens/s, {found['utilisation'][name]:.1%} of the "
            f"limit, {found['students_own'][name]:.0%} of the step is the student's own"
        )
    machine.write("utilisation", found)


if __name__ == "__main__":
    main()
