"""One training of kdlab in this process, as its command carries it out, with a clock on its batches."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import clock, machine, setting

_number = itertools.count()


@dataclass
class Block:
    """A prepared job whose training can be repeated; each repeat goes on from the weights it finds.

    Attributes:
        precision: Lightning's name of it, known after the first :meth:`fit`.
    """

    made: Any
    data: Any
    ready: Any
    place: Path
    precision: str = "32-true"

    def fit(self) -> list[list[float]]:
        """The wall time of each batch's end, epoch by epoch; validation and test see one batch."""
        from kdlab.artifact.run import Run
        from kdlab.config import instantiate
        from kdlab.fit import job, train
        from kdlab.fit.rank import Companions
        from kdlab.logger.base import opened

        folder = self.place / f"block-{next(_number)}"
        folder.mkdir(parents=True)
        (self.place / "clock.json").unlink(missing_ok=True)
        run = Run(folder)
        loggers = {name: partial(instantiate.make, node) for name, node in (self.made.cfg.logger or {}).items()}
        alone = Companions(self.made.cfg.trainer, folder)
        with opened(job.info(self.made, run, self.ready.teachers), loggers) as journal, alone as others:
            train.fit(self.made, run, self.ready.learner, self.data, journal, others)
        told = json.loads((self.place / "clock.json").read_text())
        self.precision = told["precision"]
        return told["epochs"]


def block(name: str, *words: str) -> Block:
    """Compose and prepare a job in a folder of its own; inside ``setting.composing``."""
    place = machine.results() / "block" / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    outputs = machine.results() / "block" / "outputs"
    short = ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
    given = [f"outputs={outputs}", *short, *clock.words(place / "clock.json")]
    return Block(*setting.prepared(*words, *given), place)
