"""A stored teacher that takes its time, and writes down which process of a run asked it."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from kdlab.store.build import TargetChunk
from kdlab.task.base import Task
from kdlab.teacher import cached
from kdlab.teacher.base import Saved


class Slow(cached.Cached):  # type: ignore[misc]  # final, but for a test
    def __init__(self, trained: Saved, task: Task, data: Any, taps: Collection[str], store: Path, **how: Any) -> None:
        fast = cached.run_inference

        def run_inference(*asked: Any, **how: Any) -> Iterator[TargetChunk]:
            for part in fast(*asked, **how):
                time.sleep(0.2)
                with Path("asked.log").open("a") as log:
                    log.write(f"{os.environ.get('LOCAL_RANK', 'alone')}\n")
                yield part

        cached.run_inference = run_inference  # type: ignore[assignment]
        super().__init__(trained, task, data, taps, store, **how)
        cached.run_inference = fast


def offered(folder: Path) -> list[str]:
    """Overrides that choose it, from a folder of options that is written below ``folder``."""
    option = folder / "own/teacher/slow.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("# Takes its time\ndefaults: [cached, _self_]\n_target_: slow_teacher.Slow\n")
    return ["--config-dir", "own", "teacher=slow"]
