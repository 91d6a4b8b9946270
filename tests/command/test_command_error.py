"""A user's mistake in any whole command: one sentence, exit code 2, before training, and no run that counts as done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mistake import CASES, damaged


@pytest.mark.sampled(4, tried=37)
@pytest.mark.parametrize(("command", "name"), [(command, name) for command, cases in CASES.items() for name in cases])
def test_a_mistake_is_one_sentence(kdlab, tiny, base, command, name):
    case = CASES[command][name]
    for file in ("file", "file.xls"):
        Path(file).write_text("in the way")
    words = [*tiny[command], "logger=none"] if command in tiny else []
    if case.file is not None:
        Path("rows.csv").write_text(case.file)
        words += ["datamodule.path=rows.csv"] if command in tiny else []
    if case.prepare:
        shutil.copytree(base / "outputs", "outputs")
        words += case.prepare()
    finished, begun = set(Path().rglob("done.json")), set(Path().rglob("*.ckpt"))
    code, out, err = kdlab(command, *words, *case.words)
    said = sentence(err)
    assert all(part in said for part in case.says), said
    assert code == 2
    assert "Traceback" not in out
    assert set(Path().rglob("done.json")) == finished
    if not case.late:
        assert set(Path().rglob("*.ckpt")) == begun


def test_a_required_value_is_asked_for(kdlab):
    code, _, err = kdlab("finetune", "datamodule=table", "model=bert_tiny")
    assert "datamodule.path has no value; give it one on the command line: datamodule.path=VALUE" in sentence(err)
    assert code == 2


@pytest.mark.slow
def test_a_layer_of_the_teacher_that_is_not_there(kdlab, tiny, base):
    shutil.copytree(base / "outputs", "outputs")
    words = [word for word in tiny["distill"] if not word.startswith("student.")]
    words += ["model@student=layers_of_teacher", "student.layers=[0,7]", "logger=none"]
    code, _, err = kdlab("distill", *words)
    said = sentence(err)
    assert "layers=[0, 7]" in said
    assert "from 0 to 1" in said
    assert code == 2


def sentence(err: str) -> str:
    """The one line that a failed command ends with on stderr, after what it said of its work."""
    lines = [line for line in err.splitlines() if line.strip()]
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], err
    assert "Traceback" not in err
    return lines[-1]


def test_a_mistake_that_is_found_before_the_training_leaves_no_run(kdlab, tiny):
    code, _, err = kdlab("finetune", *tiny["finetune"], "logger=none", "model.heads=3")
    assert code == 2 and "heads" in sentence(err)
    assert not list(Path("outputs/finetune").glob("[!.]*"))


@pytest.mark.slow
def test_a_mistake_in_a_run_that_was_begun_before_leaves_it_there(kdlab, tiny):
    assert kdlab("finetune", *tiny["finetune"], "logger=none")[0] == 0
    (folder,) = Path("outputs/finetune").glob("[!.]*")
    (folder / "done.json").unlink()
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"no checkpoint")
    code, _, err = kdlab("finetune", *tiny["finetune"], "logger=none")
    assert code == 2 and "cannot be read" in sentence(err)
    assert (folder / "history.csv").exists() and (folder / "failed.json").exists()


@pytest.mark.slow
def test_a_sweep_ends_its_other_jobs_and_names_the_failed_one(kdlab, tiny, base):
    shutil.copytree(base / "outputs", "outputs")
    words = [*tiny["distill"], "logger=none", "check=false", "loss.alpha=0.5,1.5", "student.heads=2,3"]
    code, out, err = kdlab("distill", "-m", *words)
    said = sentence(err)
    assert code == 2
    assert "loss.alpha is 1.5" in said or "heads=3" in said
    assert "4 runs: 1 finished, 3 failed" in " ".join(out.split())
    assert "loss.alpha=1.5" in out
    assert "heads=3" in out
    assert len(list(Path("outputs/distill").glob("*/done.json"))) == 2, "the run of the base and one of the sweep"
    assert len(list(Path("outputs/distill").glob("*/failed.json"))) == 3


@pytest.mark.slow
def test_a_mistake_in_the_recipe_fails_every_job_of_a_sweep_and_is_named(kdlab, tiny):
    code, out, err = kdlab(
        "distill",
        "-m",
        *tiny["distill"],
        "logger=none",
        "teacher.recipe=['optimiser=adamw']",
        "seed=1,2",
        "check=false",
    )
    assert "teacher.recipe" in sentence(err)
    assert code == 2
    assert "2 failed" in out


@pytest.mark.sampled(0, tried=3)
@pytest.mark.parametrize(
    ("file", "how"),
    [("logits.npy", "altered"), ("logits.npy", "cut"), ("lengths.npy", "removed"), ("meta.json", "cut")],
)
def test_a_damaged_store_is_named_and_built_again(kdlab, tiny, base, file, how):
    shutil.copytree(base / "outputs", "outputs")
    (store,) = Path("outputs/store").glob("[!.]*")
    before = {path.name: path.read_bytes() for path in store.glob("*.npy")}
    damaged(f"store/*/{file}", how)()
    code, out, err = kdlab("distill", *tiny["distill"], "logger=none")
    assert code == 0, err
    assert f"{store.absolute()} are damaged" in out
    assert "built again" in out
    assert {path.name: path.read_bytes() for path in store.glob("*.npy")} == before
