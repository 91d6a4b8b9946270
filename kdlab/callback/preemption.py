"""A process that is asked to leave, by SLURM or an operator, saves what it has where the next step ends, and goes.

Nothing is saved inside a signal handler, where the weights may be half updated: the handler leaves a notice.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, final

import lightning.pytorch as pl

from kdlab.callback.checkpoint import Checkpoint, before_validation

TOGETHER = 4  # batches between two questions to all ranks, each of which is a collective


class Preempted(BaseException):
    """The process was asked to leave; what it had done is on disk, and the same command goes on from there."""


@final
class Notice:
    """Whether this process was asked to leave.

    Attributes:
        asked: it was.
        heeded: training looks at ``asked`` after every step; at any other time :class:`Preempted` is raised at once.
        patience: seconds that training has to come to the end of a step; None: signals are not handled.
    """

    def __init__(self) -> None:
        self.asked = self.heeded = False
        self.patience: float | None = None

    def listen(self, patience: float) -> None:
        """Take SIGUSR2 and SIGTERM as a request to leave."""
        self.asked, self.patience = False, patience
        self.take_over()

    def take_over(self) -> None:
        """Put the handlers (back) in place; Lightning sets some of its own when training begins."""
        if self.patience is not None:
            for number in (signal.SIGUSR2, signal.SIGTERM):
                signal.signal(number, self._on_signal)
            signal.signal(signal.SIGALRM, self._hurry)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            return
        self.asked = True
        if not self.heeded:
            raise Preempted
        signal.setitimer(signal.ITIMER_REAL, self.patience or 0.0)

    def _hurry(self, number: int, frame: FrameType | None) -> None:
        raise Preempted

    def obeyed(self) -> None:
        """No more hurry: the process is on its way."""
        self.heeded = False
        signal.setitimer(signal.ITIMER_REAL, 0.0)


notice = Notice()


@final
class Preemption(pl.Callback):
    """Looks at :data:`notice` where a step ends; writes ``last.ckpt``, and raises :class:`Preempted` before the next.

    Not at a step after which a validation is due, see :func:`before_validation`.

    Args:
        keeper: writes last.ckpt; None: nothing is written.
    """

    def __init__(self, keeper: Checkpoint | None) -> None:
        self.keeper = keeper
        self.step = 0
        self.packed = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        notice.take_over()
        notice.heeded = True
        self.step = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.packed:  # only now has the trainer logged the step that the checkpoint ends with
            if self.keeper is not None:
                self.keeper.place(trainer)
            notice.obeyed()
            raise Preempted

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped = trainer.global_step != self.step
        self.step = trainer.global_step
        due = before_validation(trainer, batch_idx)
        if stepped and not due and trainer.global_step != trainer.max_steps and self._asked(trainer, batch_idx):
            if self.keeper is not None:
                self.keeper.keep(trainer)
            self.packed = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        notice.heeded = False  # the test is over soon; if not, the timer still runs

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        notice.obeyed()

    def _asked(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        """Whether any rank was asked; the same on all ranks."""
        if trainer.world_size == 1 or notice.patience is None:
            return notice.asked
        return batch_idx % TOGETHER == 0 and trainer.strategy.reduce_boolean_decision(notice.asked, all=False)
