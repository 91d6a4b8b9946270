"""Begin and end a W&B run so that no server can stop a training: asked for first, waited for a little, then offline."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import wandb
import wandb.env
import wandb.sdk.launch.inputs.internal  # wandb.init would: so the driver of a sweep does it once for its forks
import wandb.util

from kdlab.logger import settings
from kdlab.logger.server import NoServerError, Server, address, key

log = logging.getLogger(__name__)

with suppress(AttributeError):  # W&B asks for all packages as each run begins; the forks of a sweep have them already
    wandb.util.working_set = cache(lambda read=wandb.util.working_set: tuple(read()))
LATER = "the run is logged offline, and `kdlab sync` sends it later"
STOP_SECONDS = 5.0  # how long W&B's service may take to end; with a server that is gone it would never


def choose(mode: str, probe_seconds: float) -> str:
    """The mode that works: ``auto`` and ``online`` are offline without a key and a server that takes it."""
    if mode == "auto" and (wish := os.environ.get("WANDB_MODE", "")) in ("online", "offline", "disabled"):
        mode = wish
    if mode not in ("auto", "online"):
        return mode
    settings.warn()
    url = address()
    if key(url) is None:
        if mode == "online":
            log.warning("there is no key for W&B's server %s (WANDB_API_KEY, or `wandb login`): %s", url, LATER)
        return "offline"
    try:
        Server(url, probe_seconds).entity()
    except NoServerError as error:
        log.warning("%s: %s", error, LATER)
        return "offline"
    return "online"


def start(mode: str, seconds: Mapping[str, float], **options: Any) -> wandb.Run:
    """A new W&B run of its own, never one left open by an earlier job of this process; offline where online fails.

    W&B's service is this process's own. One that a parent process shares with its children (a notebook that logs,
    a sweep agent) outlives a killed command with its run still open, and refuses to begin it again.

    Args:
        seconds: longest time of an online run to ``start`` and to ``finish``.
        options: arguments of ``wandb.init``.
    """
    leave_foreign_service()
    options |= {"reinit": "create_new", "resume": "allow"}
    quiet: dict[str, Any] = {"console": "off", "x_disable_stats": True, "silent": True, "disable_git": True}
    limits: dict[str, Any] = {
        "init_timeout": seconds["start"],
        "finish_timeout": seconds["finish"],
        "finish_timeout_raises": True,
    }
    limits |= {"x_graphql_retry_max": 2, "base_url": address()}
    if mode == "online":
        try:
            return wandb.init(mode="online", settings=wandb.Settings(**quiet | limits), **options)
        except (wandb.errors.Error, TimeoutError, OSError) as error:
            log.warning("W&B could not begin (%s): %s", " ".join(str(error).split())[:200], LATER)
            stop()  # the failed start still holds the run's id
    return wandb.init(mode="disabled" if mode == "disabled" else "offline", settings=wandb.Settings(**quiet), **options)


def leave_foreign_service() -> None:
    """Forget another process's W&B service, which the environment names: ``3-<its process id>-unix-<path>``."""
    owner = re.match(r"\d+-(\d+)-", os.environ.get(wandb.env.SERVICE, ""))
    if owner and int(owner[1]) != os.getpid():
        del os.environ[wandb.env.SERVICE]


def end(run: wandb.Run, exit_code: int, probe_seconds: float) -> str:
    """Finish a run; what the server has not got of it, in words, "" where it has all or was not asked for it."""
    if run.offline or run.disabled:
        run.finish(exit_code=exit_code)
        return ""
    where, rows = (run.entity, run.project or "", run.id), int(run.step)
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        stop()
        return "W&B's server did not take everything in time, `kdlab sync` sends the rest."
    try:
        there = Server(address(), probe_seconds).run(*where).rows
    except NoServerError as error:
        stop()
        return f"{error}, `kdlab sync` sends what is missing there."
    return "" if there >= rows else f"W&B's server has {there} of {rows} rows, `kdlab sync` sends the rest."


def stop() -> None:
    """End W&B's service, without waiting for uploads to a server that may be gone: what is logged is on disk.

    A service that still tries would outlive this process, for as long as the server is gone.
    """
    ours = services()

    def teardown() -> None:
        with suppress(SystemExit):  # with the exit code of the service, which may be killed below
            wandb.teardown()

    thread = threading.Thread(target=teardown, daemon=True)
    thread.start()
    thread.join(STOP_SECONDS)
    left = ours & services()
    for service in left:
        with suppress(OSError):
            os.kill(service, signal.SIGKILL)
    until = time.monotonic() + STOP_SECONDS
    while left & services() and time.monotonic() < until:  # a busy machine takes a moment to end what was killed
        time.sleep(0.01)


def services() -> set[int]:
    """The process ids of W&B's service that this process started; none where there is no /proc."""
    found, marker = set(), f"\0--pid\0{os.getpid()}\0".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes()
            if b"wandb-core\0" in words and marker in words:
                found.add(int(path.parent.name))
    return found
