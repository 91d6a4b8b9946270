"""An API key goes nowhere: not into a log, a config, a checkpoint, a page, a table or a file of W&B's."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stub import Server

from kdlab.config import conf
from kdlab.logger import session

KEY = "local" + "5ec7e7" * 6 + "0000"
FORMS = (KEY, base64.b64encode(f"api:{KEY}".encode()).decode(), KEY[5:])


def leaks(root: Path) -> list[Path]:
    """The files that hold the key, or their names do; also inside compressed archives."""
    import zipfile

    found = []
    for path in root.rglob("*"):
        data = path.name.encode()
        if path.is_file():
            data += path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    data += b"".join(archive.read(name) for name in archive.namelist())
        if any(form.encode() in data for form in FORMS):
            found.append(path)
    return found


def test_the_search_finds_a_key(tmp_path):
    (tmp_path / "a.log").write_text(f"Authorization: Basic {FORMS[1]}")
    (tmp_path / KEY).touch()
    (tmp_path / "clean").write_text("nothing")
    assert {path.name for path in leaks(tmp_path)} == {"a.log", KEY}


@pytest.mark.slow
@pytest.mark.parametrize("online", [pytest.param(True, marks=pytest.mark.slow), False])
def test_no_file_and_no_output_of_any_command_has_the_key(kdlab, tiny, tmp_path, monkeypatch, online):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(session, "STOP_SECONDS", 1.0)
    said = ""
    with Server(key=KEY) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        server.dead = not online
        words = [*tiny["distill"], "trainer.max_epochs=1", "logger=many", "callback=default", "freeze=none,head"]
        words += ["hydra.launcher.jobs=1"]
        code, out, err = kdlab("distill", "-m", *words)
        assert code == 0, err
        said += out + err
        server.dead = False
        run = next(Path("outputs/distill").glob("*/done.json")).parent
        failing = [*tiny["finetune"], "optimizer.lr=1e12", "trainer.log_every_n_steps=1", "trainer.max_epochs=1"]
        for command in (
            ["finetune", *failing],
            ["evaluate", f"run={run.name}"],
            ["report"],
            ["runs"],
            ["runs", "format=csv", "file=outputs/runs.csv"],
            ["runs", "live=true"],
            ["dashboard"],
            ["sync"],
            ["distill", *tiny["distill"], "--cfg", "all"],
        ):
            code, out, err = kdlab(*command)
            said += out + err
        folders = {path.name.split("-")[0] for path in Path("outputs/wandb").glob("*run-*")}
        assert ("run" in folders) == online or not online
        assert {"distill", "finetune"} <= {path.name for path in Path("outputs").iterdir()}
        assert len(server.runs) == 4
    assert not any(form in said for form in FORMS)
    assert leaks(tmp_path) == []


@pytest.mark.slow
def test_a_key_that_a_user_puts_into_a_config_by_mistake_is_refused_by_hydra(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kdlab", "finetune", f"logger.wandb.api_key={KEY}"], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(conf().parent)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert leaks(tmp_path) == []
