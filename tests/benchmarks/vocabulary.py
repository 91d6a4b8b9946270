"""What does a step of language-model distillation take as the vocabulary grows: all logits at once, in parts, or top-k?

Each point is a process of its own, so that its peak of resident memory is its own; what stands before the first step is
taken off.

    python -m tests.benchmarks.vocabulary --sizes 1000 8000 30000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from kdlab.batch import Batch
from kdlab.loss.chunk import summed
from kdlab.loss.logit.top_k_kl import TopKKL
from kdlab.loss.objective import Objective
from kdlab.output import Output
from kdlab.store.logits import largest
from kdlab.task.causal_lm import CausalLM

KINDS = {"all at once": (None, None), "in parts": (256, None), "top-k": (None, 64), "top-k in parts": (256, 64)}
ROWS, LENGTH, STEPS = 32, 32, 3


def point(vocabulary: int, kind: str) -> dict[str, float]:
    """Seconds of a step, and MB that steps add to the peak, in this process."""
    chunk, k = KINDS[kind]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    student, teacher = (
        GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, n_embd=width, n_layer=2, n_head=2, n_positions=LENGTH))
        for width in (64, 128)
    )
    teacher.eval().requires_grad_(False)
    ids = torch.randint(0, vocabulary, (ROWS, LENGTH))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch = Batch(torch.arange(ROWS), inputs, tokens=torch.ones_like(ids, dtype=torch.bool))
    task, loss = CausalLM(chunk=chunk), Objective(0.5, terms={"top_k_kl": TopKKL(temperature=2.0)})
    kept = None
    if k is not None:  # as read from a store, which was made in parts
        with torch.no_grad():
            kept = largest(CausalLM(chunk=64).read(teacher, batch), 64, k, [1, 2])

    def compare(own: Output, goal: Output) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return loss(task.supervised(own, batch), own, goal, 0.0)

    before, seconds = forget_peak(), []
    for _ in range(STEPS):
        start = time.perf_counter()
        with torch.no_grad():
            goal = task.read(teacher, batch) if kept is None else kept
        total, _ = summed(compare, chunk, task.read(student, batch), goal)
        total.backward()
        student.zero_grad()
        seconds.append(time.perf_counter() - start)
        del total, goal
    return {"seconds": median(seconds[1:]), "mb": status("VmHWM") - before}


def forget_peak() -> float:
    """What is resident now, in MB, from which the peak is counted anew: Linux alone can forget it."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> float:
    """A line of the kernel's account of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 8000, 30000, 128000])
    parser.add_argument("--point", nargs=2, metavar=("SIZE", "KIND"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(point(int(args.point[0]), args.point[1])))
        return
    print(f"{ROWS} rows of {LENGTH} tokens\n{'vocabulary':>10} " + "".join(f"{kind:>26}" for kind in KINDS))
    for size in args.sizes:
        cells = []
        for kind in KINDS:
            words = [sys.executable, "-m", "tests.benchmarks.vocabulary", "--point", str(size), kind]
            found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            cells.append(f"{found['mb']:>15,.0f} MB {found['seconds']:>6.2f} s")
        print(f"{size:>10} " + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
