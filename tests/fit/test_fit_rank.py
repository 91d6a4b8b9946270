"""A run on two processes is the run on one."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import slow_teacher
import torch
from deadly import offered
from safetensors.torch import load_file

TESTS = Path(__file__).parents[1]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def distill(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return kdlab_in(folder, "distill", *words)


def kdlab_in(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "kdlab", *words]
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"PYTHONPATH": path.lstrip(os.pathsep)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)


def only(folder: Path) -> Path:
    (run,) = [path.parent for path in folder.glob("distill/*/done.json")]
    return run


def close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(ours[name].shape == theirs[name].shape for name in ours)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5


def curve(run: Path, name: str) -> list[float]:
    return [float(row[name]) for row in csv.DictReader((run / "history.csv").open()) if row.get(name)]


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["none", "bottom", "gradual"])
def test_two_processes_give_the_curve_and_the_weights_of_one(tmp_path, tiny, freeze):
    words = [
        *tiny["distill"],
        "optimizer=sgd",
        "optimizer.lr=0.1",
        "student.dropout=0",
        f"freeze={freeze}",
        "loss=hint",
    ]
    words += ["teacher.model.dropout=0", "trainer.log_every_n_steps=1", "logger=none", "cluster.threads=1"]
    words += ["freeze.layers=1"] if freeze == "bottom" else []
    strategy = ["trainer.strategy=ddp_find_unused_parameters_true"] if freeze == "gradual" else []
    for outputs, more in (("one", []), ("two", [*TWO, *strategy])):
        done = distill(tmp_path, *words, f"outputs={outputs}", *more)
        assert done.returncode == 0, done.stdout + done.stderr
    one, two = only(tmp_path / "one"), only(tmp_path / "two")
    for name in ("train/loss", "train/loss/hint", "val/loss", "val/accuracy", "test/loss", "test/accuracy"):
        assert curve(two, name) == pytest.approx(curve(one, name), abs=1e-5), name
    ours, theirs = load_file(one / "model/model.safetensors"), load_file(two / "model/model.safetensors")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5
    assert torch.load(two / "checkpoints/last.ckpt", weights_only=True)["global_step"] == len(curve(one, "train/loss"))


@pytest.mark.slow
def test_a_policy_that_changes_over_time_is_refused_where_ddp_could_not_follow(kdlab, tiny):
    words = [*tiny["distill"], *TWO, "freeze=gradual", "logger=none"]
    words = [word for word in words if not word.startswith("teacher.recipe")]
    code, _, err = kdlab("distill", *words, "loss=ce")
    assert code == 2
    assert "trainer.strategy=ddp_find_unused_parameters_true" in err


@pytest.mark.slow
def test_a_process_that_fails_ends_the_run_with_a_sentence(tmp_path, tiny):
    words = [*tiny["distill"], *TWO, "logger=none", "loss=ce"]
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('LOCAL_RANK') == '1': raise SystemExit('no device')"
    )
    os.environ["PYTHONPATH"], before = os.pathsep.join([str(broken), *sys.path]), os.environ.get("PYTHONPATH", "")
    try:
        done = distill(tmp_path, *words)
    finally:
        os.environ["PYTHONPATH"] = before
    assert done.returncode == 2
    assert "the process of device 1 failed: " in done.stderr
    assert not list(tmp_path.glob("outputs/distill/*/done.json"))


@pytest.mark.slow
def test_all_processes_of_a_run_ask_the_teacher(tmp_path, tiny):
    """One row a batch; the first process alone would need a minute, and the second begins long before."""
    words = [*slow_teacher.offered(tmp_path), *tiny["distill"], *TWO, "teacher.tokens_per_batch=1", "logger=none"]
    done = distill(tmp_path, *words, "cluster.threads=1")
    assert done.returncode == 0, done.stdout + done.stderr
    asked = Counter((tmp_path / "asked.log").read_text().split())
    (store,) = tmp_path.glob("outputs/store/*/meta.json")
    assert set(asked) == {"0", "1"}
    assert sum(asked.values()) == json.loads(store.read_text())["rows"], "each row once"


SPLIT = ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2"]


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["cached", "live"])
def test_models_split_between_two_processes_are_those_of_one(tmp_path, tiny, teacher):
    """Gradients are clipped, and a layer is frozen. A live teacher is split as well."""
    words = [*tiny["distill"], f"teacher={teacher}", "student.dropout=0", "freeze=bottom"]
    words += ["freeze.layers=1", "reuse_frozen=false", "teacher.model.dropout=0", "trainer.log_every_n_steps=1"]
    words += ["logger=none", "cluster.threads=1", "optimizer=sgd", "optimizer.lr=0.1", "trainer.gradient_clip_val=0.5"]
    for outputs, more in (("one", []), ("two", SPLIT)):
        done = distill(tmp_path, *words, f"outputs={outputs}", *more)
        assert done.returncode == 0, done.stdout + done.stderr
    one, two = only(tmp_path / "one"), only(tmp_path / "two")
    for name in ("train/loss", "val/loss", "val/accuracy", "test/loss", "test/accuracy"):
        assert curve(two, name) == pytest.approx(curve(one, name), abs=1e-5), name
    close(load_file(one / "model/model.safetensors"), load_file(two / "model/model.safetensors"))
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (torch.load(run / "checkpoints" / name, weights_only=True) for run in (one, two))
        close(ours["state_dict"], theirs["state_dict"])


@pytest.mark.slow
def test_a_killed_run_goes_on_split_or_not_from_the_checkpoint_of_a_split_one(tmp_path, tiny):
    """It is killed in its second step. The optimizer's moments are put together and dealt out as the weights are."""
    words = [*offered(tmp_path), *tiny["finetune"], "seed=2", "model.dropout=0", "logger=none", "cluster.threads=1"]
    words += ["trainer.log_every_n_steps=1", "callback.checkpoint.every_n_steps=1"]
    split, whole = [*words, *SPLIT, "outputs=split"], [*words, "outputs=whole"]
    assert kdlab_in(tmp_path, "finetune", *split).returncode != 0
    assert kdlab_in(tmp_path, "finetune", *whole).returncode != 0
    (saved,) = tmp_path.glob("split/finetune/*/checkpoints/last.ckpt")
    content = torch.load(saved, weights_only=True)
    assert content["global_step"] == 1 and content["optimizer_states"][0]["state"]
    (own,) = tmp_path.glob("whole/finetune/*/checkpoints/last.ckpt")
    shutil.copy(saved, own)
    (tmp_path / "spared").touch()
    found = {}
    for name, told in (("split", split), ("whole", whole), ("alone", [*words, "outputs=alone"])):
        done = kdlab_in(tmp_path, "finetune", *told)
        assert done.returncode == 0, done.stdout + done.stderr
        (found[name],) = [path.parent for path in tmp_path.glob(f"{name}/finetune/*/done.json")]
    for name in ("split", "whole"):
        assert curve(found[name], "train/loss") == pytest.approx(curve(found["alone"], "train/loss"), abs=1e-5)
        close(load_file(found["alone"] / "model/model.safetensors"), load_file(found[name] / "model/model.safetensors"))


@pytest.mark.sampled(0, tried="all")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["freeze=gradual"], "freeze=gradual changes what learns"),
        (["loss=hint", "student.hidden_size=8"], "more learns than the student"),
        (["penalty=l2_sp"], "a penalty"),
        (["teacher=ema"], "the teacher follows the student's weights"),
        (["module=vat"], "module=vat does more"),
    ],
)
def test_what_cannot_be_split_is_refused(kdlab, tiny, more, said):
    words = [*tiny["distill"], *SPLIT, "logger=none", *more]
    if more == ["teacher=ema"]:
        words = [word for word in words if "teacher." not in word]
    code, _, err = kdlab("distill", *words)
    assert code == 2
    assert said in err
