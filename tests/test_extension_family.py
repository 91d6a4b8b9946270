"""Model families from a folder outside the repository: taps by name, freezing by block, students of some layers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from documents import files
from safetensors.torch import load_file
from test_extension_modality import squares

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "kdlab" / "guide"
MODELS = {  # the paths of a layer, and of the embedding, of the two models of the guide
    "convolution": ("layers.{}.", "stem."),
    "vit": ("vit.encoder.layer.{}.", "vit.embeddings."),
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    for name, text in (files(GUIDE / "own_tasks.md") | files(GUIDE / "own_options.md")).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    squares(folder / "squares")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_family_of_ones_own_has_taps_freezes_by_block_and_gives_its_layers(model, mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def kdlab(*words: str) -> str:
        command = [sys.executable, "-m", "kdlab", *words]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    words = ["--config-dir", str(mine / "conf"), "task=images", "datamodule=squares"]
    words += [f"datamodule.path={mine / 'squares'}", f"model@teacher.model={model}", "teacher.model.depth=3"]
    words += ["student.layers=[0,2]", "loss=hint", "freeze=bottom", "freeze.layers=1", "trainer.max_epochs=3"]
    words += ["logger=none", "trainer.precision=32-true"]
    shown = kdlab("doctor", "distill", *words)
    assert "No problems found" in shown and "hidden.1" in shown and "layer.1" in shown
    kdlab("distill", "-m", *words, "teacher=cached,live")
    (teacher,) = Path("outputs/finetune").glob("*/model/model.safetensors")
    students = list(Path("outputs/distill").glob("*/model/model.safetensors"))
    weights, trained = load_file(teacher), [load_file(path) for path in students]
    layer, embedding = MODELS[model]
    for state in trained:
        names = {name for name in state if name.startswith((embedding, layer.format(0)))}
        assert len(names) > 2 and all(torch.equal(state[name], weights[name]) for name in names), "copied and frozen"
        learned = {name: weights[name.replace(layer.format(1), layer.format(2))] for name in state}
        learned = {name: value for name, value in learned.items() if name.startswith(layer.format(1))}
        assert learned and not all(torch.equal(state[name], value) for name, value in learned.items())
        assert not any(name.startswith(layer.format(2)) for name in state), "the student has two layers"
    for name in trained[0]:
        torch.testing.assert_close(trained[0][name], trained[1][name], rtol=1e-3, atol=1e-4)
    for path in students:
        metrics = json.loads((path.parents[1] / "metrics.json").read_text())
        assert metrics["test/accuracy"] > 0.4
        assert "train/loss/hint" in (path.parents[1] / "history.csv").read_text().splitlines()[0]
    run = students[0].parents[1].name
    assert "accuracy" in kdlab("evaluate", "--config-dir", str(mine / "conf"), f"run={run}", "repeats=2")
