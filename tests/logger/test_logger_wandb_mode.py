"""Where a W&B run goes: to a server, to disk, or nowhere."""

import os
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from stub import Server

from kdlab.error import UserError
from kdlab.logger.base import opened
from kdlab.logger.session import choose
from kdlab.logger.wandb import WandB
from kdlab.logger.wandb_log import logs, read

KEY = "local" + "5ec7e7" * 6 + "0000"


def runs(outputs):
    return sorted(
        (read(logs(folder)[0]) for folder in outputs.glob("wandb/*run-*")), key=lambda log: log.path.parent.name
    )


@pytest.fixture
def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_without_a_server_offline_soon_and_the_key_stays_secret(
    info, tmp_path, monkeypatch, closed_port, mode, capfd, caplog
):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port}")
    start = time.perf_counter()
    with opened(info(), {"wandb": partial(WandB, mode=mode, start_seconds=2)}) as journal:
        journal.loggers[1].log_metrics({"train/loss": 1.0}, step=0)
    assert time.perf_counter() - start < 15
    (log,) = [log for log in runs(tmp_path) if log.history]
    assert log.path.parent.name.startswith("offline-run-")
    assert "cannot be reached" in caplog.text
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert KEY.encode() not in written
    out = capfd.readouterr()
    assert KEY not in out.out + out.err + caplog.text


def test_mode_is_chosen_from_key_and_server(monkeypatch, tmp_path, closed_port):
    monkeypatch.delenv("WANDB_MODE")
    with Server(key=KEY) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert choose("auto", 1) == "offline"  # a server, no key
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1\n login user\n password {KEY}\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert choose("auto", 1) == "online"
        monkeypatch.setenv("WANDB_MODE", "disabled")
        assert choose("auto", 1) == "disabled"
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port}")
        assert choose("auto", 1) == "offline"  # a key, no server


def test_disabled_writes_nothing(info, tmp_path):
    with opened(info(), {"wandb": partial(WandB, mode="disabled")}) as journal:
        journal.loggers[1].log_metrics({"train/loss": 1.0}, step=0)
        journal.table("t", ["a"], [[1]])
    assert not list(tmp_path.glob("wandb/*run-*"))


def test_unknown_mode_is_refused(info):
    with pytest.raises(UserError, match="auto, offline, online, disabled"):
        WandB(info(), mode="onlin")


OFFLINE = """
import sys
from pathlib import Path
from kdlab.logger.base import RunInfo, opened
from kdlab.logger.wandb import WandB
folder = Path(sys.argv[1])
info = RunInfo(id="a", folder=folder, outputs=folder, command="distill", group="", name="a", tags=[], config={})
with opened(info, {"wandb": lambda info: WandB(info, mode=sys.argv[2])}) as journal:
    for step in range(5):
        journal.loggers[1].log_metrics({"train/loss": 1.0}, step=step)
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "auto"])
def test_an_offline_run_asks_no_server_even_as_its_process_ends(tmp_path, mode):
    asked = []

    class Ear(BaseHTTPRequestHandler):
        def parse_request(self):  # of whatever kind
            asked.append(self.raw_requestline)
            return False

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    unset = ("WANDB_MODE", "WANDB_API_KEY", "NETRC", "WANDB_ERROR_REPORTING")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_address[1]}", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", OFFLINE, str(tmp_path), mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    assert len(runs(tmp_path)) == 1
    assert asked == []
