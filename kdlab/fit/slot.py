"""A job of a local sweep may begin before its turn: it prepares what it can, and trains once it has a place."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

from kdlab.artifact.run import awaited

PATIENCE = 0.1  # seconds between two checks whether a process waits for this one's runs

_signs: list[Connection] = []  # on which this process receives its slot


def reserve(sign: Connection) -> None:
    """This process has begun before its turn: ``sign`` will bring True when it comes, or False if it never will."""
    _signs.append(sign)


def wait() -> float:
    """Wait for this process's turn; not if another one waits for a run that this one holds, perhaps to free a place.

    Returns:
        Seconds that it took; 0 where it is this process's turn already.

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
