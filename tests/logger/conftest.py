"""W&B's variables as they are for someone who never used it, whatever the machine says."""

from pathlib import Path

import pytest

from kdlab.logger.base import RunInfo


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.fixture
def info(tmp_path):
    def make(run="student-1a2b3c4d", **fields) -> RunInfo:
        return RunInfo(id=run, folder=Path(tmp_path) / "distill" / run, outputs=tmp_path, command="distill", **fields)

    return make
