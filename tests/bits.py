"""Whether two folders hold the same runs, bit for bit; only times and places may differ."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

KEPT = (  # of a checkpoint
    "global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers", "teacher", "schedules", "transforms",
    "samples", "gaps",
)  # fmt: skip


def same(one: Path, two: Path) -> None:
    """Two folders hold the same runs: weights, optimizers, curves and results, bit for bit; only times differ."""
    runs = [
        sorted(path.parent.relative_to(folder) for path in folder.glob("outputs/*/*/done.json"))
        for folder in (one, two)
    ]
    assert runs[0] == runs[1]
    assert {run.parent.name for run in runs[0]} == {"finetune", "distill"}
    for run in runs[0]:
        same_run(one / run, two / run)


def same_run(one: Path, two: Path) -> None:
    """Two directories of one run, as above."""
    same_checkpoints(one, two)
    assert history(one) == history(two)
    assert results(one) == results(two)


def same_checkpoints(one: Path, two: Path) -> None:
    """Model and checkpoints of two directories of one run, bit for bit."""
    pairs = [load_file(folder / "model/model.safetensors") for folder in (one, two)]
    assert_equal(*pairs, one.name)
    for name in ("last.ckpt", "best.ckpt"):
        if not any((folder / "checkpoints" / name).exists() for folder in (one, two)):
            continue  # a stage may keep no best
        pairs = [torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (one, two)]
        for key in KEPT:
            if key in pairs[0]:
                assert_equal(pairs[0][key], pairs[1][key], f"{one.name} {name} {key}")
        kept = [{key: state for key, state in pair.get("callbacks", {}).items() if key != "Speed"} for pair in pairs]
        assert_equal(*kept, f"{one.name} {name} callbacks")


def assert_equal(one, two, where: str) -> None:
    if isinstance(one, dict):
        assert list(map(str, one)) == list(map(str, two)), where
        for key in one:
            assert_equal(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), where
        for index, (left, right) in enumerate(zip(one, two, strict=True)):
            assert_equal(left, right, f"{where}.{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), f"{where}: {(one - two).abs().max()} apart"
    else:
        assert one == two, where


def history(run: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((run / "history.csv").open()))
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


def results(run: Path) -> dict[str, float]:
    metrics = json.loads((run / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if "perf/" not in name}
