"""What was logged offline arrives at a server: all rows of all restarts, and the teacher as an input artifact.

The server is a protocol stub on loopback, not W&B's own.
"""

import os
import subprocess
import sys
import time
from functools import partial

import pytest
from stub import Server

from kdlab.logger.base import Source, opened
from kdlab.logger.wandb import WandB as Logger

WandB = partial(Logger, entity="team")
KEY = "local" + "0" * 40


def sync(server, folders, cwd):
    variables = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
    variables.pop("WANDB_MODE", None)
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, sorted(folders))]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, cwd=cwd)


@pytest.mark.slow
def test_offline_runs_sync_whole_with_their_lineage(info, tmp_path):
    weights = tmp_path / "finetune" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights" * 100)
    teacher = Source("teacher-9f8e7d6c", weights, "abc")
    with opened(info(teacher.id), {"wandb": WandB}) as journal:
        journal.loggers[1].log_metrics({"val/accuracy": 0.9}, step=0)
        journal.produce(teacher)
    with opened(info("student-1", teacher=teacher), {"wandb": WandB}) as journal:
        for step in range(40):
            journal.loggers[1].log_metrics({"train/loss": 1 / (step + 1)}, step=step)
    time.sleep(1.1)  # W&B names directories by the second
    with opened(info("student-1", teacher=teacher, resumed_step=40), {"wandb": WandB}) as journal:
        for step in range(40, 60):
            journal.loggers[1].log_metrics({"train/loss": 1 / (step + 1)}, step=step)
        journal.table("confusion", ["a"], [[1]])
    with Server() as server:
        done = sync(server, tmp_path.glob("wandb/offline-run-*"), tmp_path)
        assert done.returncode == 0, done.stderr
        assert server.unknown == []
        steps = [row["trainer/global_step"] for row in server.history("student-1") if "train/loss" in row]
        assert steps == list(range(60))
        assert server.runs["student-1"]["exit"] == 0
        models = [made for made in server.artifacts.values() if made["artifactTypeName"] == "model"]
        assert teacher.id in {made["runName"] for made in models}
        assert len({made["digest"] for made in models}) == 1  # by which a server knows that both are the same weights
        assert all(made["committed"] for made in server.artifacts.values())
        used = {(use["input"]["entityName"], use["input"]["runName"]) for use in server.used}
        assert used == {("team", "student-1")}
