"""Slots of a local sweep: a job may begin before it has one; it prepares what it can, and trains once granted one."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

from kdlab.artifact.run import awaited

PATIENCE = 0.1  # seconds between two checks whether a process waits for this one's runs

_signs: list[Connection] = []  # on which this process receives its slot


def reserve(sign: Connection) -> None:
    """Begin without a slot: ``sign`` will bring True when the launcher grants one, or False if it never will."""
    _signs.append(sign)


def wait() -> float:
    """Block until the launcher grants a slot.

    Returns at once if another process waits for a run lock that this job holds: otherwise both would wait for ever.

    Returns:
        Seconds that it took; 0 where this process has a slot already.

    Raises:
        KeyboardInterrupt: the slot will never come, for the sweep was interrupted, or its driver is gone.
    """
    begun = time.perf_counter()
    while _signs:
        if _signs[0].poll(PATIENCE):
            if not _come(_signs.pop()):
                raise KeyboardInterrupt
        elif awaited():
            _signs.pop()
        elif _orphaned():
            raise KeyboardInterrupt
    return time.perf_counter() - begun


def _come(sign: Connection) -> bool:
    try:
        return bool(sign.recv())
    except EOFError:  # the driver is gone
        return False


def _orphaned() -> bool:
    """Whether the driver of the sweep is gone: this process itself may keep the other end of the sign open."""
    parent = multiprocessing.parent_process()
    return parent is not None and os.getppid() != parent.pid
