"""A dozen random kills; `make test-kill` does hundreds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_commands_killed_at_random_lose_double_change_and_leave_nothing(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz.kill", "--kills", "12", "--minutes", "15", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| **all** | 12 |" in done.stdout
