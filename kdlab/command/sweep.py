"""A multirun as a whole: its name, and the table that ends it whether or not every job succeeded."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kdlab.command import plan
from kdlab.command.job import SWEEP, SWEPT
from kdlab.error import UserError
from kdlab.file import read_json
from kdlab.launcher.share import take_gpus

if TYPE_CHECKING:
    from kdlab.report.read import Record

_begun: list[Path] = []  # the folder of the sweep that this process drives
_plans: list[IO[str]] = []  # and its plan, which counts as long as it is open


class Sweep(Callback):
    """Hydra's callback that gives a multirun its name, and its jobs theirs, before they start."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        os.environ[SWEEP] = uuid.uuid4().hex[:12]
        words = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        os.environ[SWEPT] = " ".join(word.get_key_element() for word in words if word.is_sweep_override())
        if config.check:
            refuse(config)
        _begun.append(Path(config.outputs) / config.hydra.job.config_name)
        _plans.append(plan.write(config, os.environ[SWEEP]))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        devices = OmegaConf.select(config, "trainer.devices")
        take_gpus(devices if isinstance(devices, int) and devices > 0 else 1)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # a driver keeps every return, and two configs are half a MB
            job_return.cfg = job_return.hydra_cfg = None
        if job_return.status is JobStatus.FAILED and isinstance(job_return._return_value, UserError):
            job_return.__class__ = Failed


def refuse(config: DictConfig) -> None:
    """End here where a point of the sweep cannot run: what Hydra's callbacks raise, Hydra only warns of."""
    from kdlab.command.point import of_sweep, quick, sentence

    try:
        points = of_sweep(config)
        found = quick(points)
        if not found:
            from kdlab.command.precheck import problems  # which imports torch

            found = problems(points)
        if found:
            raise UserError(sentence(found, len(points)) + "; check=false starts the other points all the same")
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        HydraConfig.instance().cfg = None


class Failed(JobReturn):
    """A job that met a user's mistake: raises it without a line of Hydra's own, as the sweep's table names the job."""

    @property  # type: ignore[misc]
    def return_value(self) -> Any:
        raise self._return_value


def conclude() -> None:
    """Print the table of the sweep that this process drove, if it drove one."""
    if not _begun:
        return
    folder = _begun.pop()
    while _plans:
        plan.end(_plans.pop())
    os.environ.pop(SWEPT, None)
    jobs = members(folder, os.environ.pop(SWEEP, ""))
    if not jobs:
        return
    print_table(jobs)
    outputs = "" if folder.parent == Path("outputs") else f" outputs={folder.parent}"
    print(f"compare them: kdlab report select={jobs[0].sweep}{outputs}")


def members(folder: Path, name: str) -> list[Record]:
    """The runs of one sweep, by job number."""
    from kdlab.report.read import record

    found = []
    for path in folder.glob("*/sweep.json"):
        try:
            mine = read_json(path, "", dict).get("sweep") == name
        except UserError:
            mine = False
        if mine:
            found.append(record(path.parent))
    return sorted(found, key=lambda one: (one.job is None, one.job))


def print_table(jobs: list[Record]) -> None:
    """Each job: what sets it apart, and what it reached or why it failed."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shared = set.intersection(*[set(job.overrides) for job in jobs]) if len(jobs) > 1 else set()
    states = {state: sum(job.state == state for job in jobs) for state in dict.fromkeys(job.state for job in jobs)}
    table = Table(title=f"{len(jobs)} runs: " + ", ".join(f"{count} {state}" for state, count in states.items()))
    for title, justify in (
        ("job", "right"),
        ("differs in", "left"),
        ("val", "right"),
        ("test", "right"),
        ("agreement", "right"),
    ):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    table.add_column("state", overflow="fold")  # the whole path of the log
    for job in jobs:
        numbers = [job.metrics.get(name) for name in ("best/val/accuracy", "test/accuracy", "test/fidelity/agreement")]
        cells = ["-" if number is None else f"{number:.3f}" for number in numbers]
        state = job.state if job.state == "finished" else f"{job.state}: {job.reason} ({job.folder}/run.log)"
        table.add_row(
            str(job.job), escape(", ".join(word for word in job.overrides if word not in shared)), *cells, escape(state)
        )
    Console().print(table)
