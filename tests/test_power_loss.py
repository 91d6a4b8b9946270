"""After a power loss at any moment a run is as before a change or as after it, and goes on to the same end."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from bits import same_run
from disk import Disk, State, restore

from kdlab.file import make_folder, put, sync, write_json

WHOLE = (
    "checkpoints/last.ckpt",
    "checkpoints/best.ckpt",
    "model/model.safetensors",
    "model/labels.json",
    "metrics.json",
)
RESUMED = 5  # of the disks, a run goes on from so many


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Of a folder that is itself on the disk."""
    (tmp_path / "disk").mkdir()
    one = Disk(tmp_path / "disk").follow(monkeypatch)
    yield one
    one.close()


def write(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)


def test_a_content_that_was_not_synced_is_lost_and_its_name_may_stay(disk):
    write(disk.root / "a", "x")
    (disk.root / "a").replace(disk.root / "b")
    assert set(disk.states) == {(), (("b", b""),)}


def test_a_name_whose_folder_was_not_synced_may_be_lost(disk):
    write(disk.root / "a", "old")
    sync(disk.root / "a")
    sync(disk.root)
    write_json(disk.root / "part", "new")
    disk.states.clear()
    (disk.root / "part").replace(disk.root / "a")
    assert {dict(state)["a"] for state in disk.states} == {b"old", b'"new"\n'}


def test_what_is_put_into_its_place_is_the_old_or_the_new_and_stays(disk):
    folder = disk.root / "one/two"
    make_folder(folder)
    for text in ("old", "new"):
        write(folder / "part", text)
        sync(folder / "part")
        put(folder / "part", folder / "a")
        if text == "old":
            disk.states.clear()
    assert {dict(state).get("one/two/a") for state in disk.states} == {b"old", b"new"}
    assert list(disk.states)[-1] == (("one/two/a", b"new"),)


def fault(disk: Disk, state: State, run: str, final: dict[str, bytes]) -> str:
    """What is wrong with a disk on which a run is: a file that is neither old nor new, or one that is missing."""
    there = {name.removeprefix(f"{run}/"): content for name, content in state}
    for name in WHOLE:
        if name in there and there[name] not in disk.versions[f"{run}/{name}"]:
            return f"{name} is torn"
    if "done.json" in there:
        for name in (*WHOLE, "done.json", "config.yaml", "history.csv"):
            if there.get(name) != final[name]:
                return f"done.json is there, and {name} is not what it was in the end"
    elif "checkpoints/last.ckpt" in there:
        step = torch.load(io.BytesIO(there["checkpoints/last.ckpt"]), weights_only=True)["global_step"]
        steps = {row["step"] for row in csv.DictReader(io.StringIO(there.get("history.csv", b"").decode()))}
        if missing := {str(number) for number in range(step)} - steps:
            return f"last.ckpt is of step {step}, and history.csv lacks {sorted(missing)}"
    return ""


@pytest.fixture
def trained(disk, kdlab, tiny, monkeypatch) -> tuple[Disk, str, list[str], Path]:
    """A run that was followed: its disks, its name, its command, and its folder as it was in the end."""
    words = ["finetune", *tiny["finetune"], "callback.checkpoint.every_n_steps=3", "trainer.log_every_n_steps=1"]
    words += ["logger=none"]
    monkeypatch.chdir(disk.root)
    code, _, said = kdlab(*words)
    assert code == 0, said
    (run,) = disk.root.glob("outputs/finetune/*")
    return disk, run.relative_to(disk.root).as_posix(), words, run


def test_no_power_loss_tears_a_run(trained):
    disk, run, _, folder = trained
    final = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = {(change, fault(disk, state, run, final)) for state, change in disk.states.items()}
    assert {(change, wrong) for change, wrong in found if wrong} == set()
    assert any(f"{run}/done.json" in dict(state) for state in disk.states)
    assert len({dict(state).get(f"{run}/checkpoints/last.ckpt") for state in disk.states}) >= 5, "old, new, none"
    last = dict(list(disk.states)[-1])
    assert {f"{run}/{name}" for name in (*WHOLE, "done.json")} <= last.keys(), "what is finished stays"


@pytest.mark.slow
def test_a_run_goes_on_from_what_a_power_loss_left_to_the_same_end(trained, kdlab, tmp_path, monkeypatch):
    disk, run, words, folder = trained
    states = list(disk.states)
    monkeypatch.undo()
    for number in range(RESUMED):
        place = tmp_path / str(number)
        restore(states[number * (len(states) - 1) // (RESUMED - 1)], place)
        monkeypatch.chdir(place)
        code, _, said = kdlab(*words)
        assert code == 0, said
        same_run(folder, place / run)
        assert json.loads((place / run / "done.json").read_text())["state"] == "finished"
        shutil.rmtree(place)
