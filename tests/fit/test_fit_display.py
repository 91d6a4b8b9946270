"""What runs and sweeps print, on terminals of several sizes and in a pipe: the numbers are those of metrics.json."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdlab.fit.beside import compared
from kdlab.fit.display import Voice

ROOT = Path(__file__).parents[2]


def run(folder: Path, *words: str, size: tuple[int, int] | None = None, jobs: int = 1) -> tuple[int, str]:
    """Exit code, and all that `kdlab WORDS` prints: to a terminal of so many rows and columns, or to a pipe."""
    command = [sys.executable, "-m", "kdlab", *words, "logger=none"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KDLAB_JOBS": str(jobs), "TERM": "xterm"}
    if size is None:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.returncode, done.stdout
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    said = bytearray()
    try:
        while part := os.read(leader, 65536):
            said += part
    except OSError:  # the terminal's other side is closed
        pass
    os.close(leader)
    return process.wait(), said.decode()


def metrics(folder: Path, command: str) -> dict[str, float]:
    (path,) = folder.glob(f"outputs/{command}/*/metrics.json")
    return json.loads(path.read_text())


def frames(text: str) -> list[str]:
    """What was drawn in place, one after the other."""
    return [part for part in re.split(r"[\r\n]", text.replace("\x1b[K", "")) if part.strip()]


def drawn(text: str) -> list[str]:
    return [part.partition("\x1b")[0] for part in re.findall(r"\r([^\r\n]*)\x1b\[K", text) if part.strip()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "size",
    [pytest.param((24, 80), marks=pytest.mark.slow), pytest.param((40, 120), marks=pytest.mark.slow), (0, 0), None],
    ids=["80x24", "120x40", "0x0", "piped"],
)
def test_a_run_prints_its_plan_its_progress_and_its_result(tmp_path, tiny, size):
    code, said = run(tmp_path, "distill", *tiny["distill"], "callback.progress.refresh_seconds=0", size=size)
    assert code == 0, said
    known, teacher = metrics(tmp_path, "distill"), metrics(tmp_path, "finetune")
    (folder,), (taught,) = tmp_path.glob("outputs/distill/*"), tmp_path.glob("outputs/finetune/*")
    lines = [line.strip() for line in frames(said)]
    for line in (
        f"run       outputs/distill/{folder.name}",
        f"data      {tiny['distill'][1].partition('=')[2]}: 128 train, 16 val, 16 test rows; 2 classes, "
        "50.0% of the training rows are negative",
        f"teacher   outputs/finetune/{taught.name}, is trained first (1 of 2 runs)",
        f"teacher   {taught.name} (trained now, its val/accuracy {teacher['best/val/accuracy']:.3f})",
        f"student   bert_tiny: {int(known['model/parameters']):,} parameters, all learn",
        "training  2 epochs, 16 steps of 16 rows; cpu, 32-true",
    ):
        assert any(found.startswith(line[:60]) and line in found for found in lines), (line, said)
    if size is None:
        assert "\r" not in said and "\x1b" not in said
        assert len(re.findall(r"^epoch \d/2  step \d+/16 .*val/accuracy .* left$", said, re.M)) == 4, said
        assert "teacher pass: 1 batch\n" in said and "test: 1 batch\n" in said
    else:
        bars = drawn(said)
        assert max(map(len, bars)) < (size[1] or 80)
        assert {bar.split()[0] for bar in bars} >= {"training", "validation", "test"}
        best = f"val/accuracy {known['best/val/accuracy']:.3f}"
        assert any(best in bar and bar.endswith("left") for bar in bars), bars
        assert not any(folder.name in bar for bar in bars)
    result = said[said.index("finished in") :].replace("\r", "").splitlines()
    assert re.fullmatch(rf"finished in \d+:\d\d: val/accuracy {known['best/val/accuracy']:.3f}", result[0])
    assert result[1].startswith("16 test rows")
    table = {line.split()[0]: line.split()[1:] for line in result[2:5]}
    names = ["test/accuracy", "test/ece", "test/f1_macro"]
    assert table["student"] == [f"{known[name]:.3f}" for name in (*names, "test/fidelity/agreement")]
    assert table["teacher"] == [f"{known[f'teacher/{name}']:.3f}" for name in names]
    assert table["majority"] == [f"{known['test/majority']:.3f}"] == ["0.500"]
    assert result[5].startswith(f"model  outputs/distill/{folder.name}/model  (")
    assert result[6] == f"next   kdlab evaluate run={folder.name}"
    assert result[8].strip().startswith(f"to train it longer: the same command with start={folder.name}")
    log = (taught / "run.log").read_text()
    assert log.count("epoch ") == 2 and "trainable: " in log, "a teacher's log is its own"
    assert (folder / "run.log").read_text().count("epoch ") == 2


@pytest.mark.slow
def test_a_finished_run_shows_its_result_again_beside_the_run_without_a_teacher(kdlab, tiny):
    assert kdlab("distill", *tiny["distill"], "loss=ce", "optimizer.lr=0.01")[0] == 0
    (alone,) = Path("outputs/distill").glob("*")
    code, first, _ = kdlab("distill", *tiny["distill"], "optimizer.lr=0.01")
    assert code == 0
    (own,) = set(Path("outputs/distill").glob("*")) - {alone}
    expected = json.loads((alone / "metrics.json").read_text())
    row = next(line for line in first.splitlines() if line.startswith("without teacher"))
    assert row.split()[2:] == [f"{expected[f'test/{name}']:.3f}" for name in ("accuracy", "ece", "f1_macro")]
    code, again, err = kdlab("distill", *tiny["distill"], "optimizer.lr=0.01")
    value = json.loads((own / "done.json").read_text())["value"]
    begin = f"{own.name} already finished: val/accuracy {value:.3f}. Use rerun=true to train it again."
    assert code == 0 and again.splitlines() == [begin, *first.splitlines()[1:]]
    assert err == ""
    code, other, _ = kdlab("distill", *tiny["distill"], "loss=ce", "optimizer.lr=0.01")
    named = ("best distilled", "teacher")
    rows = {
        name: line.removeprefix(name).split() for line in other.splitlines() for name in named if line.startswith(name)
    }
    known = json.loads((own / "metrics.json").read_text())
    assert rows["best distilled"] == [f"{known[f'test/{name}']:.3f}" for name in ("accuracy", "ece", "f1_macro")]
    assert rows["teacher"] == [f"{known[f'teacher/test/{name}']:.3f}" for name in ("accuracy", "ece", "f1_macro")]
    code, _, err = kdlab("distill", *tiny["distill"], "optimizer.lr=0.01", "trainer.max_epochs=3")
    assert code == 0 and f"{own.name} is the same but shorter; this run begins from the start" in err
    assert f"start={own.name} trainer.max_epochs=2 (a run of its own: 2 more epochs from the best weights" in err


@pytest.mark.slow
def test_a_finished_run_can_be_trained_longer_and_its_checkpoint_is_small(kdlab, tiny):
    import torch
    from safetensors.torch import load_file

    assert kdlab("finetune", *tiny["finetune"])[0] == 0
    (first,) = Path("outputs/finetune").glob("*")
    assert torch.load(first / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"] == []
    code, _, err = kdlab("finetune", *tiny["finetune"], f"start={first.name}", "optimizer.lr=0")
    assert code == 0, err
    assert f"start     {first.name}: its weights; the optimizer and all schedules begin anew" in err
    (second,) = set(Path("outputs/finetune").glob("*")) - {first}
    one, two = (load_file(folder / "model/model.safetensors") for folder in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one), "begun with these weights, and nothing was learned"


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_counts_its_jobs_and_ends_with_a_ranked_table(tmp_path, tiny, jobs):
    words = ["finetune", "-m", *tiny["finetune"], "optimizer.lr=1e-4,0.03", "trainer.max_epochs=3"]
    code, said = run(tmp_path, *words, jobs=jobs)
    assert code == 0, said
    for done in (1, 2):
        assert re.search(rf"^{done} of 2 done, {2 - done if jobs == 2 else 0} running, 0 failed", said, re.M), said
    assert said.count("data      ") == said.count("training  3 epochs, 24 steps") == 1, (
        "what all jobs share is said once"
    )
    found = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/finetune/*/metrics.json")]
    found.sort(key=lambda one: -one["best/val/accuracy"])
    assert found[0]["best/val/accuracy"] > found[1]["best/val/accuracy"]
    assert f"best val/accuracy {found[0]['best/val/accuracy']:.3f}: optimizer.lr=0.03" in said
    table = said[said.index("2 runs: 2 finished") :]
    rows = [line.split() for line in table.splitlines() if "optimizer.lr=" in line]
    assert [row[1] for row in rows] == ["optimizer.lr=0.03", "optimizer.lr=0.0001"]
    for row, one in zip(rows, found, strict=True):
        assert row[2:4] == [f"{one['best/val/accuracy']:.3f}", f"{one['test/accuracy']:.3f}"]
    assert rows[0][-1] == "best" and rows[1][-1] != "best"
    (sweep,) = {json.loads(path.read_text())["sweep"] for path in tmp_path.glob("outputs/finetune/*/sweep.json")}
    assert f"next   kdlab report select={sweep}" in table


def test_the_comparison_has_what_is_known():
    known = {"test/accuracy": 0.5671, "test/loss": 1.0, "test/fidelity/agreement": 0.9, "test/majority": 0.417}
    assert compared(known, "student", {"without teacher": {"test/accuracy": 0.5, "test/fidelity/agreement": 0.1}}) == [
        "                 test/accuracy  agreement",
        "student                  0.567      0.900",
        "without teacher          0.500",
        "majority                 0.417",
    ]


def test_many_metrics_of_one_kind_are_a_table_of_their_own():
    done = {"columns": ["accuracy", "kind/a", "kind/b", "kind/c"], "primary": ["accuracy", "kind/a"]}
    known = {"test/accuracy": 0.5, "test/kind/a": 0.25, "test/kind/b": 100.0, "test/kind/c": 1.0, "test/rows": 8.0}
    beside = {"without teacher": {"test/accuracy": 0.5, "test/kind/a": 0.125}, "other": {"test/accuracy": 0.5}}
    assert compared(known, "student", beside, done) == [
        "8 test rows      test/accuracy",
        "student                  0.500",
        "without teacher          0.500",
        "other                    0.500",
        "kind                  a       b       c",
        "student           0.250  100.000   1.000",
        "without teacher   0.125",
    ]


def test_nothing_that_was_measured_is_no_table():
    assert compared({"test/rows": 20.0, "test/majority": 0.5}, "model", {}) == []


@pytest.mark.parametrize(("most", "shown"), [(1, "1 epoch, 8 steps"), (2, "2 epochs, 8 steps")])
def test_one_epoch_is_no_epochs(monkeypatch, most, shown):
    heard: list[str] = []
    monkeypatch.setattr("kdlab.terminal.announce", heard.append)
    device = SimpleNamespace(root_device=SimpleNamespace(type="cpu"))
    trainer = SimpleNamespace(
        max_epochs=most, estimated_stepping_batches=8, global_step=0, num_devices=1, num_nodes=1, strategy=device,
        precision="32-true",
    )  # fmt: skip
    Voice(SimpleNamespace(sweep=None)).training(trainer, SimpleNamespace(rows_per_step=16))
    assert heard == [f"training  {shown} of 16 rows; cpu, 32-true"]


def test_a_sweep_names_a_teacher_once_whether_it_was_trained_or_found(monkeypatch, tmp_path):
    heard: list[str] = []
    monkeypatch.setattr("kdlab.terminal.note", heard.append)
    monkeypatch.setattr("kdlab.fit.display._noted", set())
    teacher = SimpleNamespace(folder=tmp_path, id="bert-s0", metrics={})
    first, second = (Voice(SimpleNamespace(sweep="sweep-1")) for _ in range(2))
    first.made[tmp_path] = "trained now"
    for one in (first, second):
        one.teachers({"teacher": teacher})
    assert heard == ["teacher   bert-s0"]
