"""What share of a language model's step is reading the teacher's stored largest logits, and what do they take on disk?

For each type of the stored logits: the bytes of a token, the milliseconds of reading a batch (gathering the rows from
the memory-mapped file and decoding them), and the share of the step of a student. Reading and steps alternate, and the
medians are compared, so that another load on the machine falls on both.

    python -m tests.benchmarks.top_k_read
    python -m tests.benchmarks.top_k_read --vocabulary 49152 --width 576 --layers 4    # a student of 40 million weights
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from kdlab.batch import Batch
from kdlab.loss.logit.top_k_kl import TopKKL
from kdlab.loss.objective import Objective
from kdlab.store.build import TargetChunk, open_or_build
from kdlab.store.logits import LogitFormat, PackedLogits, logit_format
from kdlab.store.packed import Packing
from kdlab.store.store import Store
from kdlab.task.causal_lm import CausalLM
from kdlab.top_k import TEMPERATURES, TopK
from tests.benchmarks import machine

ROWS, LENGTH, K = 8, 128, 64
TYPES = ("float32", "float16", "packed")


def stored(folder: Path, rows: int, vocabulary: int, kept: LogitFormat) -> Store:
    """A store of the largest of random logits, for rows of ``LENGTH`` tokens."""
    lengths, groups = np.full(rows, LENGTH, np.int64), [np.arange(rows)]

    def build(numbers: Iterator[int]) -> Iterator[TargetChunk]:
        generator = np.random.default_rng(0)
        for _ in numbers:
            count = rows * LENGTH
            index = np.argsort(generator.random((count, 4 * K)), 1)[:, :K] * (vocabulary // (4 * K))
            value = -np.cumsum(generator.exponential(0.2, (count, K)), 1) * (np.arange(K) > 0)
            top = TopK(*(torch.from_numpy(one) for one in (index, value, np.zeros((count, 4)))), TEMPERATURES)
            if isinstance(kept, PackedLogits):
                packing = Packing(K, vocabulary, TEMPERATURES)
                yield TargetChunk(groups[0], {"logits": ("token", packing.pack(top))}, packing)
                continue
            arrays = {"logits": top.value.numpy().astype(kept.dtype), "index": index.astype(np.int32)}
            arrays["tail"] = top.tail.numpy().astype(np.float32)
            yield TargetChunk(groups[0], {name: ("token", array) for name, array in arrays.items()})

    return open_or_build(folder, "k", {"top_k": K}, lengths, groups, build)


def measure(
    vocabulary: int, width: int, layers: int, chunk: int | None, rows: int, repeats: int, cpu_time: bool = False
) -> dict[str, Any]:
    """Bytes of a token, milliseconds of reading and of a step, by type."""
    clock = time.perf_counter
    if cpu_time:
        torch.set_num_threads(1)
        clock = time.process_time
    torch.manual_seed(0)
    shape = {"n_embd": width, "n_layer": layers, "n_head": max(1, width // 64), "n_positions": LENGTH}
    student = GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **shape))
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)
    task, loss = CausalLM(chunk=chunk), Objective(0.5, terms={"top_k_kl": TopKKL(temperature=2.0)})
    ids = torch.randint(0, vocabulary, (ROWS, LENGTH))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    found: dict[str, Any] = {"weights": sum(p.numel() for p in student.parameters()), "read": {}}
    with tempfile.TemporaryDirectory() as folder:
        kept = {name: logit_format(K, TEMPERATURES, name) for name in TYPES}
        stores = {name: stored(Path(folder, name), rows, vocabulary, one) for name, one in kept.items()}
        seconds: dict[str, list[float]] = {name: [] for name in (*TYPES, "step")}
        for _ in range(repeats):
            chosen = torch.randperm(rows)[:ROWS]
            batch = Batch(chosen, inputs, tokens=torch.ones_like(ids, dtype=torch.bool))
            for name in TYPES:
                begun = clock()
                logits, top = kept[name].read(stores[name], chosen.numpy(), LENGTH)
                seconds[name].append(clock() - begun)
            teacher = replace(task.frame(logits, batch), top=top)
            begun = clock()
            total, _ = loss.step(task, task.read(student, batch), teacher, batch, 0.0)
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds["step"].append(clock() - begun)
    found["step_ms"] = 1e3 * median(seconds["step"][1:])
    for name in TYPES:
        read = 1e3 * median(seconds[name][1:])
        size = stores[name].meta["top_k_bytes"]
        found["read"][name] = {"bytes": size, "ms": read, "share": read / (read + found["step_ms"])}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--vocabulary", type=int, default=30_000)
    parser.add_argument("--width", type=int, default=128, help="of the student")
    parser.add_argument("--layers", type=int, default=2, help="of the student")
    parser.add_argument("--chunk", type=int, help="task.chunk; default: all logits at once")
    parser.add_argument("--rows", type=int, default=512, help="in the store")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--cpu-time", action="store_true", help="processor time of one thread: for a busy machine")
    given = vars(parser.parse_args())
    found = measure(**given)
    print(
        f"{ROWS} rows of {LENGTH} tokens, the {K} largest of {given['vocabulary']:,} logits; a student of "
        f"{found['weights'] / 1e6:.1f} million weights, a step of {found['step_ms']:,.0f} ms"
    )
    for name, one in found["read"].items():
        print(f"{name:>8}: {one['bytes']} bytes a token, read in {one['ms']:.2f} ms, {one['share']:.2%} of a step")
    machine.write("top_k_read", given | found)


if __name__ == "__main__":
    main()
