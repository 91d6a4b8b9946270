"""`kdlab view`: W&B's viewer sees the chosen runs, and those that begin while it is open."""

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdlab.command.view import link, logged
from kdlab.config import conf


def made(root: Path, *runs: str) -> None:
    for number, run in enumerate(runs):
        folder = root / "outputs/distill" / run
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "done.json").write_text(json.dumps({"state": "finished", "value": 0.5}))
        (folder / "config.yaml").write_text(f"group: g{number}\n")
        log = root / f"outputs/wandb/offline-run-20250101_00000{number}-{run}/run-{run}.wandb"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()


def test_it_links_the_logs_of_the_chosen_runs(tmp_path):
    made(tmp_path, "a-1", "b-2", "xa-1")
    names = [path.name.split("-", 3)[3] for path in logged(str(tmp_path / "outputs"), None)]
    assert names == ["a-1", "b-2", "xa-1"]
    (one,) = logged(str(tmp_path / "outputs"), "g1")
    assert one.name.endswith("-b-2")
    (tmp_path / "links").mkdir()
    for _ in range(2):
        link(logged(str(tmp_path / "outputs"), None), tmp_path / "links")
    assert len(list((tmp_path / "links").iterdir())) == 3


def test_a_mistake_is_told_in_a_sentence(kdlab, tmp_path):
    made(tmp_path, "a-1")
    code, _, err = kdlab("view")
    assert (code, "needs a terminal" in err) == (2, True)
    code, _, err = kdlab("view", "select=other")
    assert (code, "fits none" in err) == (2, True)
    next(tmp_path.glob("outputs/wandb/*/*.wandb")).unlink()
    code, _, err = kdlab("view")
    assert (code, "None of the 1 runs has a W&B log" in err) == (2, True)


@pytest.mark.slow
def test_the_viewer_shows_a_run_and_ends_with_q(kdlab, tiny, tmp_path):
    assert kdlab("finetune", *tiny["finetune"], "trainer.max_epochs=1")[0] == 0
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kdlab", "view"], stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(conf().parent), "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"},
        start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    os.set_blocking(leader, False)
    said, asked, deadline = b"", False, time.monotonic() + 60
    try:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                said += os.read(leader, 65536)
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
            if not asked and b"offline-run-" in said:
                os.write(leader, b"q")
                asked = True
        assert b"offline-run-" in said, said[-500:]
        assert process.wait(20) == 0
    finally:
        process.kill()
        os.close(leader)
