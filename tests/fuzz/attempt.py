"""One attempt at a command, in a process that is forked from this one, which has imported everything; and its end."""

from __future__ import annotations

import atexit
import ctypes
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.watch import Strike, Trace

PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)
LONGEST = 600.0  # seconds of an attempt; one that takes longer hangs, on a busy machine too
SETTLED = 60.0  # seconds until the last process of a command is gone


@dataclass(frozen=True)
class Event:
    """A process has entered a phase, or gone back to it.

    Attributes:
        left: the phase that it comes from; operations: its file operations until then.
        strike: the file operation at which it kills; "" is none.
    """

    pid: int
    clock: float
    phase: str
    left: str
    operations: int
    strike: str


@dataclass
class Attempt:
    """How an attempt ended.

    Attributes:
        code: exit code of the command, negative: the signal that ended it; None: it hung and was ended.
        said: all that it printed.
        begun, ended: clocks.
        events: in their order.
        struck: the event in which the strike met its victim; None: the command ended first.
    """

    code: int | None
    said: str
    begun: float
    ended: float
    events: list[Event] = field(default_factory=list)
    struck: Event | None = None


def adopt() -> None:
    """Let processes whose parent is killed become this one's, which then knows when they end (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def left() -> list[str]:
    """Wait until all processes of ended commands are gone; those that do not go are killed, and named."""
    until = time.monotonic() + SETTLED
    while time.monotonic() < until:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            return []
    found = []
    for path in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        with suppress(OSError):
            found.append(Path(f"/proc/{path}/cmdline").read_text().replace("\0", " ").strip()[:200])
            os.kill(int(path), signal.SIGKILL)
    return found


def attempt(words: Sequence[str], folder: Path, strike: Strike | None = None) -> Attempt:
    """Do ``kdlab WORDS`` in ``folder``, and kill it on its way."""
    number = len(list(folder.glob("said.*")))
    path = folder / f"said.{number}"
    path.touch()
    ours, theirs = os.pipe()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _command(list(words), folder, path, theirs, strike if strike and strike.operation is not None else None)
    os.close(theirs)
    try:
        result = _watched(pid, ours, begun, strike)
    finally:
        os.close(ours)
    result.said = path.read_text(errors="replace")
    return result


def _watched(pid: int, pipe: int, begun: float, strike: Strike | None) -> Attempt:
    """Follow an attempt to its end, and strike where that is by the clock."""
    result = Attempt(None, "", begun, begun)
    ended = os.pidfd_open(pid)
    due, moment, entries, rest = begun + LONGEST, None, 0, b""
    timed = strike if strike is not None and strike.operation is None else None
    reading = True
    try:
        while True:
            ready, _, _ = select.select([pipe, ended] if reading else [ended], [], [], max(due - time.monotonic(), 0))
            if pipe in ready:
                got = os.read(pipe, 65536)
                reading = bool(got)
                *lines, rest = (rest + got).split(b"\n")
                result.events += map(_event, lines)
                for event in result.events[len(result.events) - len(lines) :]:
                    if timed and moment is None and event.phase == timed.phase and _fits(timed, event.pid, pid):
                        entries += 1
                        if entries == timed.entry:
                            moment = (time.monotonic() + timed.delay, event.pid)
                            due = moment[0]
            elif ended in ready:  # all that it told is read
                result.code = 0
                break
            elif time.monotonic() >= due:
                if moment is None or timed is None:
                    break
                struck = time.monotonic()
                met, timed, due = _kill(timed, moment[1], pid), None, begun + LONGEST
                moment = (struck, moment[1]) if met else None
    finally:
        os.close(ended)
        if result.code is None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    result.ended = time.monotonic()
    if result.code is not None:
        result.code = os.waitstatus_to_exitcode(status)
    if strike is not None and strike.operation is None and timed is None and moment is not None:
        told = [one for one in result.events if one.pid == moment[1] and one.clock <= moment[0]]
        result.struck = told[-1] if told else None
    else:
        result.struck = next((one for one in result.events if one.strike), None)
    return result


def _event(line: bytes) -> Event:
    pid, clock, phase, left, operations, strike = line.decode().split("\t")
    return Event(int(pid), float(clock), phase, left, int(operations), strike)


def _fits(strike: Strike, pid: int, driver: int) -> bool:
    return strike.victim in ("process", "tree") or pid != driver


def _kill(strike: Strike, victim: int, driver: int) -> bool:
    """Kill; False where it had ended."""
    one = driver if strike.victim in ("driver", "tree") else victim
    try:
        if Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return False
        if strike.victim == "tree":
            os.killpg(driver, signal.SIGKILL)
        else:
            os.kill(one, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return True


def _command(words: list[str], folder: Path, path: Path, pipe: int, strike: Strike | None) -> None:
    """The life of a command, which ends in here."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        said = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        for name in ("cache", "tmp"):
            (folder / name).mkdir(exist_ok=True)
        os.environ |= {"KDLAB_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}
        tempfile.tempdir = None
        tempfile.gettempdir()  # Python tries it with a file of its own
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["kdlab", *words]
        Trace(pipe, strike)
        from kdlab.__main__ import main

        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(BaseException):
            if names := os.environ.get("KDLAB_FUZZ_MODULES"):
                Path(names).write_text("\n".join(list(sys.modules)))
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
