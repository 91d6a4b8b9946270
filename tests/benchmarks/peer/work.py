"""What every peer's script shares: the rows, the models, the loss, the batches, and one line of JSON at the end.

A script is run as ``python -m tests.benchmarks.peer.NAME`` in the peers' environment; of kdlab it imports only what
names the number format in which the CPU is fastest. In the column ``documented`` a script does what its documentation
shows; in ``best`` what a careful user would add.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax  # noqa: E402
from torch.optim.lr_scheduler import LambdaLR  # noqa: E402

from kdlab.precision import multiplies_bfloat16_faster  # noqa: E402
from tests.benchmarks.machine import cpuinfo  # noqa: E402

POOL = 50  # batches that are sorted by length together


@dataclass
class Rows:
    """Tokens and labels, read from the files that kdlab's own datamodule was exported to.

    Attributes:
        ids: one array of token ids a row.
        labels: ``[N]`` int64.
        pad: the id of the padding token.
        length: what fixed padding pads to.
    """

    ids: list[np.ndarray]
    labels: np.ndarray
    pad: int
    length: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.ids])

    def batch(self, index: Any, fixed: bool) -> dict[str, Tensor]:
        """Padded rows: to ``length``, or to the longest of them."""
        chosen = [self.ids[place] for place in index]
        width = self.length if fixed else max(map(len, chosen))
        ids = np.full((len(chosen), width), self.pad, np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(chosen):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        labels = torch.from_numpy(self.labels[np.asarray(index)])
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask), "labels": labels}

    def padded(self, fixed: bool) -> list[dict[str, Tensor]]:
        """A map-style dataset: a dict a row, padded to ``length`` or not at all."""
        whole = [self.batch([place], fixed) for place in range(len(self))]
        return [{name: value[0] for name, value in row.items()} for row in whole]

    def shuffled(self, size: int, seed: int, grouped: bool) -> list[np.ndarray]:
        """The rows of each batch of an epoch: shuffled; if grouped, sorted by length in pools of ``POOL`` batches."""
        random = np.random.default_rng(seed)
        order = random.permutation(len(self))
        if grouped:
            lengths = self.lengths
            for start in range(0, len(order), POOL * size):
                pool = order[start : start + POOL * size]
                order[start : start + POOL * size] = pool[np.argsort(lengths[pool], kind="stable")]
        batches = np.split(order, range(size, len(order), size))
        return [batches[place] for place in random.permutation(len(batches))]


class Batches:
    """An iterable of whole batches, new each epoch, for loops that take any iterable with a length."""

    def __init__(self, rows: Rows, size: int, seed: int, fixed: bool, grouped: bool) -> None:
        self.rows, self.size, self.seed, self.fixed, self.grouped, self.epoch = rows, size, seed, fixed, grouped, 0

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        plan = self.rows.shuffled(self.size, 1000 * self.seed + self.epoch, self.grouped)
        self.epoch += 1
        return (self.rows.batch(index, self.fixed) for index in plan)


@dataclass
class Work:
    """One run that a peer has to do: everything is loaded, nothing is trained."""

    args: argparse.Namespace
    train: Rows
    test: Rows
    teacher: nn.Module
    student: nn.Module

    @property
    def best(self) -> bool:
        return self.args.column == "best"

    @property
    def device(self) -> torch.device:
        return torch.device(self.args.device)

    @property
    def steps(self) -> int:
        return self.args.epochs * -(-len(self.train) // self.args.batch_size)

    def autocast(self) -> Any:
        """bfloat16 at its best where the machine has it, float32 as documented."""
        if self.best and has_bfloat16(self.args.device):
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """``(1 - alpha) * CE + alpha * T^2 * KL``, as kdlab's ``loss=kd``."""
        t, alpha = self.args.temperature, self.args.alpha
        student, teacher = student.float(), teacher.float()
        divergence = kl_div(log_softmax(student / t, -1), softmax(teacher / t, -1), reduction="batchmean") * t * t
        return (1 - alpha) * cross_entropy(student, labels) + alpha * divergence

    def adamw(self) -> torch.optim.Optimizer:
        fused = {"fused": True} if self.best else {}
        return torch.optim.AdamW(self.student.parameters(), lr=self.args.lr, weight_decay=0.01, **fused)


def warmup_linear(optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    """kdlab's default: up over the first tenth of the steps, then on a straight line to 0."""
    rise = max(1, round(0.1 * steps))
    return LambdaLR(optimizer, lambda step: step / rise if step < rise else max(0.0, (steps - step) / (steps - rise)))


def has_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return multiplies_bfloat16_faster(cpuinfo())


def under(model: nn.Module, context: Callable[[], Any]) -> nn.Module:
    """The model with its forward pass inside a context, for libraries that offer no mixed precision on this device."""
    forward = model.forward

    def inside(*arguments: Any, **named: Any) -> Any:
        with context():
            return forward(*arguments, **named)

    model.forward = inside  # type: ignore[method-assign]
    return model


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--column", choices=["documented", "best"], required=True)
    for name in ("teacher", "student", "data"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--alpha", type=float, default=0.9, help="the teacher's share")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the training rows")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(words)


def read(folder: Path, split: str, share: float = 1.0) -> Rows:
    """A split, or a random share of its rows, always the same."""
    meta = json.loads((folder / "meta.json").read_text())
    tokens, offsets = np.load(folder / "tokens.npy"), np.load(folder / "offsets.npy")
    labels, index = np.load(folder / "labels.npy"), np.load(folder / f"{split}.npy")
    if share < 1:
        count = max(1, round(share * len(index)))
        index = np.random.default_rng(0).permutation(index)[:count]
    ids = [tokens[offsets[row] : offsets[row + 1]] for row in index]
    return Rows(ids, labels[index], meta["pad"], meta["max_length"])


def load(args: argparse.Namespace) -> Work:
    from transformers import AutoModelForSequenceClassification, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    teacher, student = (
        AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).to(args.device)
        for path in (args.teacher, args.student)
    )
    torch.manual_seed(args.seed)
    train, test = read(args.data, "train", args.share), read(args.data, "test")
    return Work(args, train, test, teacher.eval().requires_grad_(False), student.train())


@torch.inference_mode()
def accuracy(work: Work) -> float:
    """On the test split, in batches sorted by length, whatever the column: scoring is not what is compared."""
    work.student.eval()
    order = np.argsort(work.test.lengths)
    right = 0
    for index in np.split(order, range(128, len(order), 128)):
        batch = {name: value.to(work.device) for name, value in work.test.batch(index, fixed=False).items()}
        labels = batch.pop("labels")
        right += int((work.student(**batch).logits.argmax(-1) == labels).sum())
    return right / len(order)


def run(peer: str, train: Callable[[Work], dict[str, float]], words: list[str] | None = None) -> dict[str, Any]:
    """Load, train, score, and print what it took.

    Args:
        train: trains ``work.student``; returns what it measured inside, such as ``teacher_seconds``.
    """
    args = arguments(words)
    work = load(args)
    start = time.perf_counter()
    inside = train(work)
    if work.device.type == "cuda":
        torch.cuda.synchronize()
    middle = time.perf_counter()
    right = accuracy(work)
    answer = {
        "peer": peer,
        "column": args.column,
        "samples": len(work.train) * args.epochs,
        "threads": torch.get_num_threads(),
        "bfloat16": work.best and has_bfloat16(args.device),
        "training_seconds": middle - start,
        "evaluation_seconds": time.perf_counter() - middle,
        "accuracy": right,
        **inside,
    }
    print(json.dumps(answer), flush=True)
    return answer
