"""A multirun as a whole: its name, and the table that ends it whether or not every job succeeded."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kdlab import terminal
from kdlab.config.job import SWEEP, SWEPT
from kdlab.config.several import in_shell
from kdlab.error import UserError
from kdlab.file import read_json
from kdlab.importing import importing
from kdlab.launcher import plan
from kdlab.launcher.resources import take_gpus
from kdlab.metric.majority import NAME as MAJORITY
from kdlab.secret import masked
from kdlab.text import printable

if TYPE_CHECKING:
    from kdlab.report.read import Record

APART = ("rerun", "check", "download", "trust")  # keys that do not change the results of a sweep
_begun: list[Path] = []  # the folder of the sweep that this process drives
_plans: list[IO[str]] = []  # and its plan, which counts as long as it is open


class Sweep(Callback):
    """Hydra's callback that names a multirun and its jobs before they start."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        os.environ[SWEEP] = name_of(config.hydra.job.config_name, config.hydra.overrides.task)
        words = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        os.environ[SWEPT] = " ".join(word.get_key_element() for word in words if word.is_sweep_override())
        if config.check:
            refuse(config)
        _begun.append(Path(config.outputs) / config.hydra.job.config_name)
        _plans.append(plan.write(config, os.environ[SWEEP]))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        terminal.doing(Path(config.hydra.runtime.output_dir))
        devices = OmegaConf.select(config, "trainer.devices")
        if OmegaConf.select(config, "trainer.accelerator") == "cpu":
            return
        take_gpus(devices if isinstance(devices, int) and devices > 0 else 1)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # a driver keeps every return, and two configs are half a MB
            job_return.cfg = job_return.hydra_cfg = None
        if job_return.status is JobStatus.FAILED and isinstance(job_return._return_value, UserError):
            job_return.__class__ = Failed


def name_of(verb: str, words: Iterable[str]) -> str:
    """The name of a sweep: the same command, such as one that goes on with what was interrupted, has the same name.

    Example:
        >>> name_of("distill", ["seed=0,1", "loss=kd"]) == name_of("distill", ["loss=kd", "seed=0,1", "rerun=true"])
        True
    """
    kept = sorted(word for word in map(str, words) if word.split("=")[0] not in APART)
    return f"sweep-{hashlib.sha256(json.dumps([verb, kept]).encode()).hexdigest()[:8]}"


def refuse(config: DictConfig) -> None:
    """End here where a point of the sweep cannot run: what Hydra's callbacks raise, Hydra only warns of."""
    from kdlab.config.point import of_sweep, quick, sentence

    try:
        points = of_sweep(config)
        found = quick(points)
        if not found:
            with importing():
                from kdlab.plan.jumps import jumps  # which import torch
                from kdlab.plan.precheck import problems

            found = problems(points)
            for note in jumps(points):
                print(f"note: {note}", file=sys.stderr)
        if found:
            raise UserError(sentence(found, len(points)) + "; check=false starts the other points all the same")
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        HydraConfig.instance().cfg = None


def forked() -> None:
    """This process is a fork of the driver, and does not hold its plan, which would outlive a driver that is killed."""
    while _plans:
        _plans.pop().close()


class Failed(JobReturn):
    """A job that met a user's mistake: raises it without a line of Hydra's own, as the sweep's table names the job."""

    @property  # type: ignore[misc]
    def return_value(self) -> Any:
        raise self._return_value


def conclude() -> None:
    """Print the table of the sweep that this process drove, if it drove one; also where Ctrl-C ends it."""
    if not _begun:
        return
    folder = _begun.pop()
    interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt)
    count = 0
    while _plans:
        count = plan.count(_plans[-1])
        plan.end(_plans.pop())
    os.environ.pop(SWEPT, None)
    name = os.environ.pop(SWEEP, "")
    jobs = members(folder, name)
    ahead = 0
    if interrupted:
        count = max(count, len(jobs))
        jobs = [job for job in jobs if job.state != "interrupted" or (job.folder / "progress.json").exists()]
        ahead = count - len(jobs)  # with those that were prepared and waited for a slot
    if not jobs and ahead <= 0:
        return
    print_table(jobs, ahead)
    outputs = "" if folder.parent == Path("outputs") else f" outputs={folder.parent}"
    finished = any(job.state == "finished" for job in jobs)
    print(printable(f"next   {f'kdlab report select={name}{outputs}' if finished else same_command()}"))


def same_command() -> str:
    """The command that began this sweep, as one line for a shell; without rerun=true, so that it goes on."""
    words = [word for word in masked(sys.argv[1:]) if word != "rerun=true"]
    return " ".join([sys.argv[0], *(in_shell(word) if shlex.quote(word) != word else word for word in words)])


def members(folder: Path, name: str) -> list[Record]:
    """The runs of one sweep, by job number."""
    from kdlab.report.read import record, sweeps_of

    found = []
    for path in folder.glob("*/sweep.json"):
        try:
            recorded = read_json(path, "", dict)
        except UserError:
            continue
        if name in sweeps_of(recorded):
            found.append(record(path.parent))
    return sorted(found, key=lambda one: (one.job is None, one.job))


def print_table(jobs: list[Record], ahead: int = 0) -> None:
    """Each job, the best validation first: what sets it apart, and what it reached; then why some have no result.

    Args:
        ahead: points of the sweep that were not begun.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=terminal.width(sys.stdout) if sys.stdout.isatty() else 100)
    console.print(Text(summary(jobs, ahead)))
    finished = ranked(jobs)
    metric = str(finished[0].done.get("metric")) if finished else ""
    words = differences(jobs)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("job", justify="right")
    table.add_column("differs in", overflow="fold")
    from kdlab.config.direction import primaries

    tested = [f"test/{name}" for name in primaries(job.done for job in finished)]
    columns = list(dict.fromkeys([f"best/{metric}", metric.replace("val/", "test/", 1), *tested]))
    columns = [name for name in columns if any(name in job.metrics for job in finished)]
    heads = [name.removeprefix("best/") for name in columns[:2]] + [name.split("/")[-1] for name in columns[2:]]
    for title in heads:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for job in finished:
        numbers = [job.metrics.get(name) for name in columns]
        cells = ["-" if number is None else f"{number:.3f}" for number in numbers]
        best = "best" if job is finished[0] and len(finished) > 1 and job.done.get("value") is not None else ""
        table.add_row(str(job.job), Text(words[job.id]), *cells, Text(best, style="bold green"))
    if finished:
        console.print(table)
        beside = {"teacher": f"teacher/{columns[1]}", MAJORITY: f"test/{MAJORITY}"} if len(columns) > 1 else {}
        for name, column in beside.items():  # the same for all, or no line of the table is the right one
            values = {job.metrics.get(column) for job in finished}
            if len(values) == 1 and (value := values.pop()) is not None:
                print(f"{name:<8} {heads[1]} {value:.3f}")
    for job in jobs:
        if job.state != "finished":
            place = f"job {job.job}" + (f" ({words[job.id]})" if words[job.id] else "")
            print(printable(f"{place} {job.state}: {job.reason} ({job.folder}/run.log)"))


def differences(jobs: list[Record]) -> dict[str, str]:
    """By run, the settings that some run of a sweep was given another value of.

    A run that another command made may have been given less: then its setting is what its config has.
    """
    from kdlab.report.setting import flatten, text

    given = {job.id: dict(_setting(word) for word in job.overrides) for job in jobs}
    shared = set.intersection(*[set(one.items()) for one in given.values()]) if len(jobs) > 1 else set()
    keys = dict.fromkeys(key for one in given.values() for key, value in one.items() if (key, value) not in shared)
    keys = {key: None for key in keys if key.rpartition(".")[2] not in APART}
    found = {}
    for job in jobs:
        flat = flatten(job.config or {})
        values = {key: given[job.id].get(key, text(flat.get(f"choice.{key}", flat.get(key, "")))) for key in keys}
        found[job.id] = ", ".join(f"{key}={value}" for key, value in values.items() if value != "")
    return found


def _setting(word: str) -> tuple[str, str]:
    """Key and value of an override."""
    key, _, value = word.partition("=")
    return key.lstrip("+~"), value


def summary(jobs: list[Record], ahead: int = 0) -> str:
    """The number of runs by how they ended, and of points that were not begun."""
    states = {state: sum(job.state == state for job in jobs) for state in dict.fromkeys(job.state for job in jobs)}
    counts = [f"{count} {state}" for state, count in states.items()] + ([f"{ahead} not started"] if ahead > 0 else [])
    return f"{len(jobs) + max(ahead, 0)} runs: " + ", ".join(counts)


def ranked(jobs: list[Record]) -> list[Record]:
    """The finished jobs, the best value of what decides in validation first; of equals in their order."""
    from kdlab.config.direction import higher_is_better
    from kdlab.direction import gathered

    finished = [job for job in jobs if job.state == "finished"]
    valued = [job for job in finished if isinstance(job.done.get("value"), int | float)]
    metric = str(valued[0].done.get("metric")) if valued else ""
    sign = 1 if higher_is_better(metric, gathered(job.done for job in valued)) is False else -1
    return sorted(valued, key=lambda job: sign * job.done["value"]) + [job for job in finished if job not in valued]
