"""How fast is the store built, against a bare inference loop over batches sorted by length?

The bare loop reads as many tokens a batch as kdlab does, with all threads: once in float32, and once in bfloat16 where
the machine has it. The stricter ratio, against the faster of the two, is the one to reach.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import nullcontext
from typing import Any

import torch

from tests.benchmarks import machine, setting
from tests.benchmarks.option import on, options
from tests.benchmarks.ratio import interleaved, ratios, spread


@torch.inference_mode()
def bare(model: Any, data: Any, tokens: int, device: str, bfloat16: bool) -> float:
    """Seconds of a plain pass over all rows."""
    kind = torch.device(device).type
    context = torch.autocast(kind, torch.bfloat16) if bfloat16 else nullcontext()
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    begun, parts = time.perf_counter(), []
    with context:
        for batch in data.every_row(tokens):
            moved = batch.to(device).inputs
            parts.append(model(**moved).logits.float().cpu())
    torch.cat(parts)
    seconds = time.perf_counter() - begun
    torch.set_num_threads(threads)
    return seconds


def measure(rows: int | None, repeats: int, device: str = "cpu") -> dict[str, Any]:
    from transformers import AutoModelForSequenceClassification

    from tests.benchmarks.peer.work import has_bfloat16

    teacher = setting.teacher()
    outputs = machine.results() / "store-build"
    words = [*setting.common(teacher, rows, 1), *setting.STUDENTS["bert_tiny"], f"outputs={outputs}", *on(device)]
    model = AutoModelForSequenceClassification.from_pretrained(teacher / "model", dtype=torch.float32).to(device).eval()
    seconds: dict[str, list[float]] = {}
    with setting.composing():
        made, data, _ = setting.prepared(*words)
        tokens = made.cfg.teacher.tokens_per_batch

        def store() -> float:
            shutil.rmtree(outputs, ignore_errors=True)
            return setting.prepared(*words)[2].metrics["perf/teacher_seconds"]

        runs = {"store": store, "float32": lambda: bare(model, data, tokens, device, False)}
        if has_bfloat16(device):
            runs["bfloat16"] = lambda: bare(model, data, tokens, device, True)
        for run in runs.values():
            run()  # warms up: the first batch of each shape costs extra in each precision
        for _, name in interleaved(list(runs), repeats):
            seconds.setdefault(name, []).append(runs[name]())
    loops = {name: ratios(values, seconds["store"]) for name, values in seconds.items() if name != "store"}
    return {
        "rows": len(data.used),
        "tokens_per_batch": tokens,
        "seconds": {name: spread(values).plain() for name, values in seconds.items()},
        "speed_against_bare": {name: ratio.plain() for name, ratio in loops.items()},
        "speed_against_fastest": min(loops.values(), key=lambda ratio: ratio.median).plain(),
    }


def main() -> None:
    args = options(__doc__)
    found = measure(args.rows, args.repeats, args.device)
    for name, ratio in found["speed_against_bare"].items():
        print(f"building the store: {ratio['median']:.2f} of the speed of a bare loop in {name} (aim 0.8)")
    machine.write("store_build", found)


if __name__ == "__main__":
    main()
