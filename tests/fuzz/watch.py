"""What a process does while it is watched: which phase of a run it is in, and which file operation it is about to do.

A process that is forked from it is watched as well. Each change of phase goes through a pipe, with the clock, so that
whoever reads it can kill the process at a chosen moment and knows afterwards where that struck.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

START, TEACHER, STORE, STUDENT, CHECKPOINT, MODEL, RESULT, LAST = (
    "start-up", "teacher training", "store build", "student training", "writing a checkpoint", "saving the model",
    "metrics.json and done.json", "the last second, after training",
)  # fmt: skip
PHASES = (START, TEACHER, STORE, STUDENT, CHECKPOINT, MODEL, RESULT, LAST)
HOOKS = {  # the function of a phase; training and the last second are found by Trace itself
    "kdlab.store.build.StoreBuilder.contribute": STORE,
    "kdlab.store.build.StoreBuilder.finish": STORE,
    "kdlab.callback.checkpoint.Checkpoint.keep": CHECKPOINT,
    "kdlab.callback.checkpoint.Checkpoint.place": CHECKPOINT,
    "kdlab.callback.checkpoint.Checkpoint.finish": CHECKPOINT,
    "kdlab.callback.checkpoint.Checkpoint._save": CHECKPOINT,
    "kdlab.transform.save.save_finished": MODEL,
    "kdlab.artifact.run.Run.finish": RESULT,
}
FIT = "lightning.pytorch.loops.fit_loop._FitLoop.run"  # from the first step to the last
TEST = "lightning.pytorch.trainer.trainer.Trainer.test"  # what comes after training begins with it
WRITES = {"rename", "remove", "mkdir", "rmdir", "link", "symlink", "truncate", "chmod", "utime"}  # of os


@dataclass(frozen=True)
class Strike:
    """When and whom to kill: in a phase, so long after it was entered for the n-th time, or at its n-th file operation.

    Attributes:
        victim: the process that is in the phase (a ``job``, where a sweep's driver forked it), its ``driver``, or both
            (the ``tree``).
        entry, delay: which time the phase is entered, from 1, and seconds after that.
        operation: the number of a file operation within the phase, from 1, in any process; None: by the clock.
    """

    phase: str
    victim: str = "process"
    entry: int = 1
    delay: float = 0.0
    operation: int | None = None

    def __str__(self) -> str:
        if self.operation is not None:
            return f"{self.victim} in {self.phase}, at file operation {self.operation}"
        return f"{self.victim} in {self.phase}, {1e3 * self.delay:.1f} ms after time {self.entry}"


class Trace:
    """The watch over this process and over those that it forks.

    Args:
        pipe: where changes of phase are written to, a line each.
        strike: kill at a file operation; what is struck by the clock is the reader's affair.
    """

    def __init__(self, pipe: int, strike: Strike | None) -> None:
        self.pipe, self.strike = pipe, strike
        self.driver = os.getpid()
        self.ground = START  # the phase where no other is entered
        self.entered: list[str] = []
        self.operations: Counter[str] = Counter()
        os.register_at_fork(after_in_child=self._forked)
        sys.addaudithook(self._audit)
        os.fsync = self._before(os.fsync)
        for name, phase in HOOKS.items():
            self._hook(name, lambda real, phase=phase: self._within(real, lambda *given: phase))
        self._hook(FIT, lambda real: self._within(real, _training))
        self._hook(TEST, self._after_training)
        self.tell()

    @property
    def phase(self) -> str:
        return self.entered[-1] if self.entered else self.ground

    def tell(self, left: str = "", strike: str = "") -> None:
        """Write down the phase that this process is in now, and which it left, or which file operation ends it."""
        left = left or self.phase
        line = "\t".join(
            [str(os.getpid()), f"{time.monotonic():.6f}", self.phase, left, str(self.operations[left]), strike]
        )
        with suppress(OSError):  # nobody reads it any more
            os.write(self.pipe, f"{line}\n".encode())

    def _forked(self) -> None:
        self.ground, self.entered, self.operations = START, [], Counter()
        self.tell()

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            flags = arguments[2]
            if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return
        elif event.removeprefix("os.") not in WRITES:
            return
        self.operate(event, arguments)

    def operate(self, name: str, arguments: tuple[Any, ...]) -> None:
        """A file operation is about to be done."""
        self.operations[self.phase] += 1
        strike = self.strike
        if strike is None or strike.phase != self.phase or strike.operation != self.operations[self.phase]:
            return
        if strike.victim in ("job", "driver") and os.getpid() == self.driver:
            return  # such a strike is at what a job does
        self.tell(strike=" ".join(f"{name} {arguments[0] if arguments else ''}".split()))
        if strike.victim == "tree":
            os.killpg(0, signal.SIGKILL)
        os.kill(self.driver if strike.victim == "driver" else os.getpid(), signal.SIGKILL)

    def _before(self, real: Callable) -> Callable:
        @functools.wraps(real)
        def synced(*arguments: Any) -> Any:
            self.operate("os.fsync", arguments)
            return real(*arguments)

        return synced

    def _within(self, real: Callable, phase: Callable[..., str]) -> Callable:
        @functools.wraps(real)
        def watched(*arguments: Any, **named: Any) -> Any:
            self.entered.append(phase(*arguments))
            self.tell()
            try:
                return real(*arguments, **named)
            finally:
                self.tell(self.entered.pop())

        return watched

    def _after_training(self, real: Callable) -> Callable:
        """The last second of a command begins with the test of its own run; that of a teacher's comes earlier."""

        @functools.wraps(real)
        def tested(trainer: Any, *arguments: Any, **named: Any) -> Any:
            if not _of_teacher(arguments[0]):
                self.ground = LAST
                self.tell(START)
            return real(trainer, *arguments, **named)

        return tested

    @staticmethod
    def _hook(name: str, around: Callable[[Callable], Callable]) -> None:
        owner, attribute = find(name)
        real = getattr(owner, attribute)
        hooked = around(real)
        setattr(owner, attribute, hooked)
        if not isinstance(owner, type):  # modules have imported it by its name
            for module in list(sys.modules.values()):
                if getattr(module, "__name__", "").startswith("kdlab") and vars(module).get(attribute) is real:
                    setattr(module, attribute, hooked)


def find(name: str) -> tuple[Any, str]:
    """The module or class that holds a dotted name, and the last part of the name."""
    parts = name.split(".")
    for size in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:size]))
        except ModuleNotFoundError:
            continue
        for part in parts[size:-1]:
            owner = getattr(owner, part)
        getattr(owner, parts[-1])
        return owner, parts[-1]
    raise LookupError(name)


def _of_teacher(learner: Any) -> bool:
    """Whether a command that trains a student trains its teacher."""
    return sys.argv[0].endswith("distill") and type(learner).__name__ == "Finetune"


def _training(loop: Any) -> str:
    return TEACHER if _of_teacher(loop.trainer.lightning_module) else STUDENT
