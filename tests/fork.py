"""Whole commands in processes of their own, which begin at once: forked from a server that has imported everything."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(
    [
        "kdlab.__main__",
        "kdlab.command.distill",
        "kdlab.launcher.sweep",
        "kdlab.datamodule.table",
        "kdlab.module.distill",
        "kdlab.task.sequence_classification",
        "kdlab.teacher.cached",
        "transformers.models.bert.modeling_bert",
    ]
)


def start(words: list[str], folder: Path, kill: str = "", call: int = 1, by: int = signal.SIGKILL) -> Any:
    """Start ``kdlab WORDS`` in ``folder``; what it says goes to ``folder/said.PID``.

    Args:
        kill: the dotted name of a function or method; at its n-th call the process gets the signal ``by``.
        call: n.
    """
    os.environ["PYTHONPATH"] = str(ROOT)  # the server is started with it: kdlab may not be installed
    folder.mkdir(exist_ok=True)
    process = server.Process(target=_run, args=(words, str(folder), kill, call, by), name="MainProcess")
    process.start()
    return process


def end(process: Any, folder: Path, timeout: float = 120) -> tuple[int, str]:
    """Exit code (negative: the signal that ended it) and what it said."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError((folder / f"said.{process.pid}").read_text())
    return process.exitcode, (folder / f"said.{process.pid}").read_text()


def _run(words: list[str], folder: str, kill: str, call: int, by: int) -> None:
    os.chdir(folder)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])  # of the processes of other devices
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background ignores it
    said = os.open(f"said.{os.getpid()}", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if kill:
        _arm(kill, call, by)
    from kdlab.__main__ import main

    sys.argv = ["kdlab", *words]
    main()


def _arm(name: str, call: int, by: int) -> None:
    owner, attribute = _find(name)
    real, calls = getattr(owner, attribute), 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), by)
        return real(*arguments, **named)

    setattr(owner, attribute, deadly)


def _find(name: str) -> tuple[Any, str]:
    """The module or class that holds a dotted name, and the name in it."""
    parts = name.split(".")
    for size in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:size]))
        except ImportError:
            continue
        for part in parts[size:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise LookupError(name)
