"""One run on two nodes: it is the run of one process, and it outlives the death of a rank."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import pytest
import torch
from bits import same_run
from safetensors.torch import load_file
from sweeps import LONG, local, processes, whole_on_wandb

pytestmark = pytest.mark.cluster

PLAIN = ["optimizer=sgd", "optimizer.lr=0.1", "student.dropout=0", "loss=hint", "trainer.log_every_n_steps=1"]
NODES = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=2"]
RANKS = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.num_nodes=2"]


def curve(run: Path, name: str) -> list[float]:
    return [float(row[name]) for row in csv.DictReader((run / "history.csv").open()) if row.get(name)]


@pytest.mark.parametrize("place", [NODES, RANKS], ids=["1 process a node", "2 processes a node"])
def test_two_nodes_give_the_curve_and_the_weights_of_one_process(sweep, tiny, tmp_path_factory, place):
    alone = tmp_path_factory.mktemp("alone")
    local(alone, *tiny["distill"], *PLAIN)
    code, said = sweep.run(*PLAIN, *place)
    assert code == 0, said
    (two,), (one,) = sweep.done, [path.parent for path in alone.glob("outputs/distill/*/done.json")]
    for name in ("train/loss", "train/loss/hint", "val/loss", "val/accuracy", "test/loss", "test/accuracy"):
        assert curve(two, name) == pytest.approx(curve(one, name), abs=1e-5), name
    ours, theirs = load_file(one / "model/model.safetensors"), load_file(two / "model/model.safetensors")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5
    assert len(list(sweep.folder.glob("outputs/finetune/*/done.json"))) == 1
    assert len(list(sweep.folder.glob("outputs/store/*/meta.json"))) == 1
    checkpoint = torch.load(two / "checkpoints/last.ckpt", weights_only=True)
    assert not [name for name in checkpoint["state_dict"] if "teacher" in name], "no DDP around it, nor in checkpoints"
    sweep.settle()
    assert {nodes for _, _, nodes in sweep.sacct()} == {"n[1-2]"}


@pytest.fixture(scope="module")
def whole(slurm, tiny, tmp_path_factory) -> Path:
    """The folder of a run on two nodes that nothing disturbed."""
    from sweeps import QUICK, Sweep

    one = Sweep(slurm, tmp_path_factory.mktemp("whole"), [*tiny["distill"], *QUICK, "logger=none"])
    code, said = one.run(*LONG, *NODES)
    assert code == 0, said
    return one.folder


@pytest.mark.fault(name="`kill -9` of one rank of two nodes", runs=1)
@pytest.mark.parametrize("rank", [0, 1])
def test_kill_9_of_one_rank(taught, whole, rank):
    taught.begin(*LONG, *NODES, "logger=wandb")
    victim = taught.when()
    ranks = processes(taught.job(victim))
    assert len(ranks) == 2
    os.kill(ranks[rank], signal.SIGKILL)
    code, said = taught.end()
    assert code == 1, said
    assert "1 runs: 1 failed" in said
    taught.release()
    code, said = taught.run(*LONG, *NODES, "logger=wandb")
    assert code == 0, said
    (expected,) = [path.parent for path in whole.glob("outputs/distill/*/done.json")]
    same_run(expected, victim)
    assert whole_on_wandb(taught.folder, [victim]) == {victim.name: 2}


@pytest.mark.fault(name="preemption signal to two ranks", runs=1)
def test_preemption_of_two_ranks(taught, whole):
    taught.begin(*LONG, *NODES, "logger=wandb")
    victim = taught.when()
    taught.slurm.ask("scancel", "--signal=USR2", taught.job(victim))
    taught.requeued(1)
    taught.release()
    code, said = taught.end()
    assert code == 0, said
    assert taught.logs.count("Requeued job") == 1
    (expected,) = [path.parent for path in whole.glob("outputs/distill/*/done.json")]
    same_run(expected, victim)
    assert whole_on_wandb(taught.folder, [victim]) == {victim.name: 2}
