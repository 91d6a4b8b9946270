"""W&B's own sweep agents drive kdlab: what the server asks for is run, and arrives as the run that it asked for.

The server is a protocol stub on loopback, not W&B's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stub import Server

from kdlab.config.stored import read_config

KEY = "local" + "0" * 40
ROOT = Path(__file__).parents[2]


class Agents(Server):
    """A sweep of a fixed list of points, handed out one after the other.

    Args:
        words: the command line before the values.
        points: key -> value of each.
    """

    def __init__(self, words: list[str], points: list[dict[str, object]]) -> None:
        super().__init__()
        self.config = yaml.safe_dump({"method": "grid", "command": [*words, "${args_no_hyphens}"]})
        self.points, self.given = points, 0

    def sweepwithruns(self, v):
        return {"project": {"sweep": {"id": "s", "name": v["sweep"], "config": self.config, "runs": {"edges": []}}}}

    def createagent(self, v):
        return {"createAgent": {"agent": {"id": "a"}}}

    def heartbeat(self, v):
        busy = any(json.loads(v["runState"]).values())
        commands: list[dict] = []
        if not busy and self.given < len(self.points):
            values = {key: {"value": value} for key, value in self.points[self.given].items()}
            commands = [{"type": "run", "run_id": f"asked{self.given}", "program": "kdlab", "args": values}]
            self.given += 1
        elif not busy:
            commands = [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": "a"}, "commands": json.dumps(commands)}}


@pytest.mark.slow
def test_an_agent_runs_what_a_sweep_asks_for(tiny, tmp_path):
    words = [sys.executable, "-m", "kdlab", "finetune", *tiny["finetune"], "logger.wandb.project=p", "group=g"]
    points = [{"optimizer.lr": 0.01, "freeze": "none"}, {"optimizer.lr": 0.02, "freeze": "head"}]
    with Agents(words, points) as server:
        variables = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
        variables |= {"PYTHONPATH": str(ROOT)}
        variables.pop("WANDB_MODE", None)
        command = [sys.executable, "-m", "wandb", "agent", "--project", "p", "--entity", "stub", "sweep1"]
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [path.parent for path in tmp_path.glob("outputs/finetune/*/done.json")]
    found = [(cfg.optimizer.lr, cfg.choice.freeze) for cfg in map(read_config, runs)]
    assert sorted(found) == [(0.01, "none"), (0.02, "head")], done.stderr
    print(server.unknown, {name: (run.get("sweep"), len(server.history(name))) for name, run in server.runs.items()})
    assert set(server.runs) == {"asked0", "asked1"}
    assert all(server.history(name) for name in server.runs)
