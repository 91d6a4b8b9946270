"""``trainer=gpu`` from beginning to end: what a GPU could do otherwise than a CPU. Run by ``make test-gpu``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bits import results, same
from fork import end, start
from safetensors.torch import load_file

pytestmark = pytest.mark.gpu
STUDENT = "kdlab.module.distill.Distill"
EXACT = ("trainer.deterministic=true",)
LEARNS = ("loss=ce", "optimizer.lr=0.01", "trainer.max_epochs=10")


def on_gpu(words: list[str], precision: str = "bf16-mixed") -> list[str]:
    """A small command of the fixture ``tiny``, and its teacher's recipe, on the GPU."""
    moved = [word.replace("trainer.precision=32-true", f"trainer.precision={precision}") for word in words]
    return [word.replace("'model=", "'trainer=gpu','model=") for word in moved] + ["trainer=gpu", "logger=none"]


def run(words: list[str], folder: Path, **kill: Any) -> str:
    code, said = end(start(words, folder, **kill), folder, timeout=300)
    assert code == (-9 if kill else 0), said
    return said


def student(folder: Path) -> Path:
    (done,) = folder.glob("outputs/distill/*/done.json")
    return done.parent


@pytest.fixture(scope="module")
def distilled(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distilled")
    run(["distill", *on_gpu(tiny["distill"]), *LEARNS], folder)
    return folder


def test_a_run_learns_and_notes_the_gpu(distilled):
    found = results(student(distilled))
    assert found["test/accuracy"] > found["test/majority"]
    environment = json.loads((student(distilled) / "environment.json").read_text())
    assert environment["gpu"] == torch.cuda.get_device_name(0)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_stored_and_a_live_teacher_give_the_same_run(tiny, tmp_path, precision):
    for teacher in ("live", "cached"):
        words = [f"teacher={teacher}", "loss.alpha=1.0", *EXACT]
        run(["distill", *on_gpu(tiny["distill"], precision), *words], tmp_path / teacher)
    one, two = (load_file(student(tmp_path / name) / "model/model.safetensors") for name in ("live", "cached"))
    near = 1e-5 if precision == "32-true" else 2e-3
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < near


def test_a_killed_run_goes_on_to_the_same_bits(tiny, tmp_path):
    words = ["distill", *on_gpu(tiny["distill"]), *EXACT, "trainer.max_epochs=3", "callback.checkpoint.every_n_steps=3"]
    run(words, tmp_path / "whole")
    run(words, tmp_path / "killed", kill=f"{STUDENT}.training_step", call=13)
    run(words, tmp_path / "killed")
    same(tmp_path / "whole", tmp_path / "killed")


def test_a_clipped_step_in_float16_learns_as_one_in_bfloat16(tiny, distilled, tmp_path):
    run(["distill", *on_gpu(tiny["distill"], "16-mixed"), *LEARNS], tmp_path)
    half, brain = results(student(tmp_path)), results(student(distilled))
    assert half["test/accuracy"] == pytest.approx(brain["test/accuracy"], abs=0.15)


@pytest.mark.parametrize(
    "more",
    [
        ["compile=true"],
        ["freeze=bottom"],
        ["freeze=gradual"],
        ["teacher=ema"],
        ["teacher=self", "datamodule/augment=word_dropout"],
        ["module=mutual", "teacher=peer"],
        ["module=vat"],
        ["penalty=l2_sp"],
        ["loss=tinybert"],
        ["loss=crd"],
        ["loss/balance=gradnorm"],
        ["datamodule.tokens_per_batch=64"],
        ["trainer.precision=32-true", "trainer.accumulate_grad_batches=2"],
    ],
    ids=lambda more: "-".join(more),
)
def test_every_kind_of_step_runs(tiny, distilled, tmp_path, more):
    words = on_gpu(tiny["distill"])
    if any(word.startswith("teacher=") for word in more):
        words = [word for word in words if not word.startswith("teacher.")]
        words = [word for word in words if not word.startswith("model@teacher")]
    run(["distill", *words, *more], tmp_path)


def test_a_sweep_shares_the_gpu(tiny, tmp_path):
    run(["distill", "-m", *on_gpu(tiny["distill"]), "seed=0,1", "hydra.launcher.jobs=2"], tmp_path)
    assert len(list(tmp_path.glob("outputs/distill/*/done.json"))) == 2


def test_the_other_commands_find_their_device(tiny, distilled, reviews):
    name = student(distilled).name
    run(["evaluate", f"run={name}", "repeats=3"], distilled)
    (report,) = distilled.glob("outputs/evaluate/*/report.json")
    own = json.loads(report.read_text())["models"]["trained"]
    assert own["accuracy"] == pytest.approx(results(student(distilled))["test/accuracy"], abs=0.13)
    run(["predict", f"run={name}", f"path={reviews}", "file=labelled.csv"], distilled)
    assert len((distilled / "labelled.csv").read_text().splitlines()) == 161
    said = run(["doctor", "distill", *on_gpu(tiny["distill"]), "loss.temperature=3"], distilled)
    assert "error" not in said.lower()


def test_a_run_on_the_cpu_is_the_same_where_a_gpu_is_seen(tiny, tmp_path, monkeypatch):
    """``trainer=cpu`` leaves the GPU to others, in the teacher's pass as well."""
    words = ["distill", *tiny["distill"], "logger=none"]
    run(words, tmp_path / "seen")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run(["distill", *words[1:], "group=hidden"], tmp_path / "hidden")
    one, two = (load_file(student(tmp_path / name) / "model/model.safetensors") for name in ("seen", "hidden"))
    assert all(torch.equal(one[name], two[name]) for name in one)
