"""Logs and settings of somebody else: no file leaves the machine that is no part of a run, and no key goes astray."""

import os
from pathlib import Path

import pytest
from stub import Server

from kdlab.logger import server as wandb_server
from kdlab.logger.sync_plan import sync_plans
from kdlab.logger.unsent_log import framed
from kdlab.logger.wandb_log import RECORD

KEY = "local" + "0" * 40


def record(**fields):
    """A record of W&B's log, from nested plain values."""
    made = RECORD()
    for name, value in fields.items():
        part = getattr(made, name)
        for key, inner in value.items():
            setattr(part, key, inner)
        part.SetInParent()
    return made


def artifact(**entry):
    made = record(artifact={"run_id": "evil", "project": "p", "type": "model", "name": "a"})
    made.artifact.manifest.contents.add(path="a", **entry)
    return made


def staged(path):
    made = RECORD()
    made.files.files.add(path=path)
    return made


def lay(outputs: Path, *records, entity="") -> Path:
    """A log under ``outputs``, as W&B lays it."""
    folder = outputs / "wandb" / "offline-run-20260101_000000-evil"
    (folder / "files").mkdir(parents=True)
    head = record(run={"run_id": "evil", "project": "p", "entity": entity})
    path = folder / "run-evil.wandb"
    path.write_bytes(framed([one.SerializeToString() for one in (head, *records)]))
    return folder


@pytest.fixture
def secret(tmp_path) -> Path:
    path = tmp_path / "home" / "id_rsa"
    path.parent.mkdir()
    path.write_text("PRIVATE")
    return path


def hostile(secret: Path) -> dict:
    return {
        "a path": [artifact(local_path=str(secret))],
        "a path that climbs": [artifact(local_path=f"outputs/../{secret.relative_to(secret.parents[1])}")],
        "a staged file that climbs": [staged("../../../../home/id_rsa")],
        "a folder of tensorboard": [record(tbrecord={"log_dir": str(secret.parent), "save": True})],
        "a request": [record(request={})],
        "a manifest elsewhere": [record(artifact={"name": "a"})],
    }


@pytest.mark.sampled(4, tried="all")
@pytest.mark.parametrize("name", hostile(Path("/x/home/id_rsa")))
@pytest.mark.parametrize("missing", ["refuse", "send"])
def test_a_file_from_outside_of_the_outputs_is_not_sent(kdlab, tmp_path, secret, monkeypatch, name, missing):
    monkeypatch.chdir(tmp_path)
    records = hostile(secret)[name]
    if name == "a manifest elsewhere":
        records[0].artifact.manifest.manifest_file_path = str(secret)
    lay(tmp_path / "outputs", *records)
    with Server(key=KEY) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        code, out, _ = kdlab("sync", f"missing={missing}")
        assert code == 1
        assert "left  evil" in out
        assert "delete the log" in out
        assert not server.runs
        assert "PRIVATE" not in str(vars(server))


@pytest.mark.parametrize("what", ["file", "folder", "fifo"])
def test_links_and_pipes_among_the_files_of_a_run_are_not_followed(tmp_path, secret, what):
    folder = lay(tmp_path / "outputs")
    if what == "folder":
        (folder / "files").rmdir()
        (folder / "files").symlink_to(secret.parent)
    elif what == "fifo":
        os.mkfifo(folder / "files" / "output.log")
    else:
        (folder / "files" / "wandb-metadata.json").symlink_to(secret)
    (plan,) = sync_plans(tmp_path / "outputs", {})
    assert plan.dangers


def test_a_run_goes_to_no_team_that_only_its_log_names(kdlab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "outputs", entity="attacker")
    with Server(key=KEY) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        code, out, _ = kdlab("sync")
        assert code == 1
        assert "entity=attacker" in out
        assert not server.runs
        code, out, _ = kdlab("sync", "entity=attacker", "check=true")
        assert "neither" not in out


@pytest.mark.parametrize("line", ["base_url = {url}", "base_url = {url}\nmode = online\nentity = attacker"])
def test_settings_of_the_working_directory_name_no_server_for_the_key(tmp_path, monkeypatch, line, caplog):
    from kdlab.logger import session

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.delenv("WANDB_MODE")
    asked = []
    monkeypatch.setattr(wandb_server.Server, "entity", lambda self: asked.append(self.url) or "me")
    Path("wandb").mkdir()
    with Server() as server:
        Path("wandb/settings").write_text(f"[default]\n{line.format(url=server.url)}\n")
        session.wandb.teardown()
        session.choose("auto", 0.5)
        assert asked
        assert server.url not in asked
        assert "is not read" in caplog.text
        assert session.wandb.Settings().read_system_settings().sources == []
    session.wandb.teardown()


def test_the_users_own_settings_name_the_server(tmp_path, monkeypatch):
    from kdlab.logger.settings import wandb

    own = tmp_path / "settings"
    own.write_text("[default]\nbase_url = http://127.0.0.1:1\n")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    wandb.teardown()
    assert wandb_server.address() == "http://127.0.0.1:1"
    wandb.teardown()
