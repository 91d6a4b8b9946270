"""What a kill could do to the results of a command is noticed: the judge of the kills can find each kind of fault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kdlab.logger.unsent_log import framed
from kdlab.logger.wandb_log import RECORD
from tests.fuzz.chain import Chain, Kill
from tests.fuzz.judge import compare
from tests.fuzz.kill import table
from tests.fuzz.watch import FIT, HOOKS, STORE, TEST, find

RUN = "outputs/finetune/a-1"
LOG = "outputs/wandb/offline-run-20260101_000000-a-1/run-a-1.wandb"


def weights(path: Path, value: float) -> None:
    save_file({"a": torch.tensor([value])}, path)


def checkpoint(path: Path, value: float) -> None:
    torch.save({"global_step": 3, "state_dict": {"a": torch.tensor([value])}}, path)


def wandb(path: Path, losses: list[float]) -> None:
    records = [RECORD()]
    records[0].run.run_id = "a-1"
    for step, loss in enumerate(losses):
        record = RECORD()
        for key, value in {"trainer/global_step": step % 3, "train/loss": loss, "_runtime": 0.1 * step}.items():
            record.history.item.add(key=key, value_json=json.dumps(value))
        records.append(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(framed(record.SerializeToString() for record in records))


@pytest.fixture
def whole(tmp_path) -> Path:
    """A finished run with its store and its W&B log."""
    folder = tmp_path / "whole"
    run = folder / RUN
    for name in ("model", "checkpoints"):
        (run / name).mkdir(parents=True)
    weights(run / "model/model.safetensors", 1.0)
    checkpoint(run / "checkpoints/last.ckpt", 1.0)
    (run / "config.yaml").write_text("seed: 0\n")
    (run / "history.csv").write_text("step,train/loss,perf/seconds\n0,0.5,1\n1,0.4,1\n2,0.3,1\n")
    (run / "metrics.json").write_text('{"val/accuracy": 0.5, "perf/seconds": 1}')
    (run / "done.json").write_text('{"value": 0.5, "metric": "val/accuracy", "seconds": 1}')
    store = folder / "outputs/store/12"
    store.mkdir(parents=True)
    (store / "logits.npy").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (store / "meta.json").write_text(json.dumps({"files": {"logits.npy": empty}, "seconds": 1}))
    wandb(folder / LOG, [0.5, 0.4, 0.3])
    return folder


def text(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new, 1)) and None


ALLOWED: dict[str, Callable[[Path], None]] = {
    "nothing": lambda folder: None,
    "times": text(f"{RUN}/done.json", '"seconds": 1', '"seconds": 9'),
    "measured times": text(f"{RUN}/history.csv", "0.5,1", "0.5,7"),
    "a second log": lambda folder: wandb(folder / LOG.replace("000000", "000001"), []),
    "somebody waited for a lock": lambda folder: (folder / RUN / ".lock.wanted").touch(),
}
BROKEN: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "a run": ("lost", "done.json", lambda folder: (folder / RUN / "done.json").unlink()),
    "a row": ("lost", "history.csv step 1", text(f"{RUN}/history.csv", "1,0.4,1\n", "")),
    "a row twice": ("duplicated", "history.csv step 1", text(f"{RUN}/history.csv", "1,0.4,1\n", "1,0.4,1\n1,0.4,1\n")),
    "a number of a row": ("different", "history.csv", text(f"{RUN}/history.csv", "0.4", "0.40001")),
    "a metric": ("different", "metrics.json", text(f"{RUN}/metrics.json", "0.5", "0.6")),
    "the result": ("different", "done.json", text(f"{RUN}/done.json", "0.5", "0.6")),
    "the config": ("different", "config.yaml", text(f"{RUN}/config.yaml", "0", "1")),
    "the weights": ("different", "safetensors", lambda folder: weights(folder / RUN / "model/model.safetensors", 1.1)),
    "the checkpoint": ("different", "last.ckpt", lambda folder: checkpoint(folder / RUN / "checkpoints/last.ckpt", 2)),
    "the store": ("different", "store/12", lambda folder: (folder / "outputs/store/12/logits.npy").write_bytes(b"1")),
    "a part file": ("left behind", ".part", lambda folder: (folder / RUN / "checkpoints/last.part").touch()),
    "a half saved model": ("left behind", ".model.12", lambda folder: (folder / RUN / ".model.12").mkdir()),
    "a temporary file": ("left behind", "tmp/x", lambda folder: (folder / "tmp").mkdir() or (folder / "tmp/x").touch()),
    "a step of W&B": ("lost", "train/loss of step 2", lambda folder: wandb(folder / LOG, [0.5, 0.4])),
    "a step of W&B twice": (
        "duplicated", "train/loss of step 0", lambda folder: wandb(folder / LOG, [0.5, 0.4, 0.3, 0.5])
    ),
    "another value in W&B": ("different", "train/loss of step 2", lambda folder: wandb(folder / LOG, [0.5, 0.4, 0.2])),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_times_and_restarts_are_no_fault(whole, tmp_path, name):
    killed = Path(shutil.copytree(whole, tmp_path / "killed"))
    ALLOWED[name](killed)
    assert compare(whole, killed) == []


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_kill_could_break_is_noticed(whole, tmp_path, name):
    killed = Path(shutil.copytree(whole, tmp_path / "killed"))
    kind, what, damage = BROKEN[name]
    damage(killed)
    found = compare(whole, killed)
    assert any(fault.kind == kind and what in fault.what for fault in found), found
    if name != "a run":
        assert {fault.kind for fault in found} == {kind}, found


@pytest.mark.parametrize("name", [*HOOKS, FIT, TEST])
def test_the_functions_of_a_phase_are_there(name):
    owner, attribute = find(name)
    assert callable(getattr(owner, attribute))


def test_the_table_counts_kills_and_faults():
    kills = [
        Kill(STORE, "process", "", False),
        Kill(STORE, "process", "os.rename x", True),
        Kill(STORE, "job", "", True),
    ]
    told = table([Chain(0, "distill", "ready", kills=kills, runs=2)])
    assert "| store build | 3 | 1 | 2 |" in told
    assert "| of these a job of a sweep | 1 | 0 | 1 |" in told
    assert "| **all** | 3 | 1 | 2 |" in told
    assert told.endswith("| 2 | 0 | 0 | 0 | 0 |")
