"""``cluster=slurm``: the jobs of a sweep as SLURM job arrays. SLURM schedules; this keeps every run's result.

The run directory is the truth: a run is finished where its done.json is, whatever SLURM's state of its job. So finished
runs are not submitted, a run whose job is still in the queue (from this command or an earlier one) is waited for, and
one whose job left the queue without a result is a failed job among others.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from kdlab import queue
from kdlab.artifact.run import Run, claim
from kdlab.error import JobError, UserError
from kdlab.file import lock, write_text
from kdlab.launcher import start
from kdlab.launcher.point import Point, composed
from kdlab.secret import masked

OURS = ("_target_", "submitit_folder", "array_size", "poll_seconds", "settle_seconds", "max_num_timeout")
LOCKED = 200  # runs done again in one array: their locks are open files
COMMON = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name")


def launch(
    context: HydraContext, function: TaskFunction, config: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Bring every point of a batch to its end, in the order of ``overrides``."""
    if find_spec("submitit") is None or find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        raise UserError("cluster=slurm needs submitit: pip install 'kdlab[slurm]'")
    queue.check()
    points = [_checked(composed(context, config, list(words), first + index)) for index, words in enumerate(overrides)]
    runs = {point.folder: point for point in reversed(points)}  # two points can be one run, such as t=2 and t=2.0
    for folder in {point.submissions for point in points}:
        folder.mkdir(parents=True, exist_ok=True)
    started = _submit(context, function, config, runs)
    failed = _wait(runs, started)
    for point in runs.values():
        point.enroll()  # an earlier command's jobs have named their own sweep
    return [point.result(failed.get(point.folder, "")) for point in points]


def _checked(point: Point) -> Point:
    settings = point.settings
    if not isinstance(settings["tasks_per_node"], int) or settings["tasks_per_node"] < 1:
        raise UserError(f"cluster=slurm needs trainer.devices as a number, and not '{settings['tasks_per_node']}'")
    other = any(settings.get(key) for key in ("gpus_per_node", "gres", "gpus_per_task"))
    if point.job.cfg.trainer.accelerator in ("gpu", "cuda") and not other:
        settings["gpus_per_node"] = settings["tasks_per_node"]
    return point


def _submit(
    context: HydraContext, function: TaskFunction, config: DictConfig, runs: dict[Path, Point]
) -> dict[Path, str]:
    """Submit what is neither finished nor in the queue.

    Returns:
        The job of every run that has one.
    """
    first = next(iter(runs.values())).submissions
    with lock(first / ".lock", "the submission of another command"):
        waiting: dict[Path, queue.Queued] = {}
        for folder in {point.submissions for point in runs.values()}:
            found = queue.pending(folder)
            if found is None:
                raise UserError(
                    "cluster=slurm: the queue cannot be asked (`squeue --me` failed); nothing was submitted"
                )
            waiting |= found
        waiting = {folder: one for folder, one in waiting.items() if one.state != "COMPLETING"}  # on its way out
        jobs = {folder: waiting[folder].id for folder in runs if folder in waiting}
        todo = [p for p in runs.values() if p.folder not in jobs and (p.job.cfg.rerun or not p.finished)]
        finished = len(runs) - len(jobs) - len(todo)
        for batch in _alike(todo):
            jobs |= _array(context, function, config, batch)
    for point in runs.values():
        point.enroll()
    print(
        f"{len(runs)} runs: {finished} finished before, {len(jobs) - len(todo)} joined, {len(todo)} submitted",
        flush=True,
    )
    return jobs


def _alike(points: list[Point]) -> list[list[Point]]:
    """The points that can share a job array."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        key = json.dumps([point.settings, bool(point.job.cfg.rerun)], sort_keys=True)
        groups.setdefault(key, []).append(point)
    batches = []
    for group in groups.values():
        size = group[0].settings["array_size"]
        size = min(size, LOCKED) if group[0].job.cfg.rerun else size
        batches += [group[begin : begin + size] for begin in range(0, len(group), size)]
    return batches


def _array(context: HydraContext, function: TaskFunction, config: DictConfig, points: list[Point]) -> dict[Path, str]:
    """Submit one job array; what is done again is emptied once SLURM has taken it, and before its job can see it."""
    with ExitStack() as locks:
        again = [locks.enter_context(claim(point.folder)) for point in points if point.job.cfg.rerun]
        jobs = _sbatch(context, function, config, points)
        for run, point in zip(again, points, strict=False):
            run.clear()
            _describe(point)
    return jobs


def _sbatch(context: HydraContext, function: TaskFunction, config: DictConfig, points: list[Point]) -> dict[Path, str]:
    import submitit
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

    from kdlab.launcher.task import Task

    settings = points[0].settings
    key = uuid.uuid4().hex[:8]
    queue.announce(points[0].submissions, key, [point.folder for point in points])
    for point in points:
        if not point.job.cfg.rerun:
            _prepare(point)
    executor = submitit.AutoExecutor(
        cluster="slurm",
        folder=settings["submitit_folder"],
        slurm_max_num_timeout=settings["max_num_timeout"],
        slurm_python=f"{shlex.quote(sys.executable)} -I -S {shlex.quote(start.__file__)}",
    )
    asked = {name: value for name, value in settings.items() if name not in OURS}
    asked |= {"name": f"{settings['name']}-{key}", "srun_args": ["--kill-on-bad-exit=1", *settings["srun_args"]]}
    asked["additional_parameters"] = {"requeue": True} | settings["additional_parameters"]
    try:
        executor.update_parameters(
            **{name if name in COMMON else f"slurm_{name}": value for name, value in asked.items()}
        )
        work = BaseSubmititLauncher()
        work.setup(hydra_context=context, task_function=function, config=deepcopy(config))
        task = Task(work, patience=settings["signal_delay_s"] / 2)
        states = [Singleton.get_state()] * len(points)
        words = [[word for word in p.overrides if not word.startswith("rerun=")] for p in points]
        jobs = executor.map_array(task, words, [point.number for point in points], states)
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, ValueError) as problem:
        raise UserError(f"cluster=slurm: sbatch refused the jobs: {' '.join(str(problem).split())}") from problem
    return {point.folder: job.job_id for point, job in zip(points, jobs, strict=True)}


def _prepare(point: Point) -> None:
    """Make the run's directory fit for its job, which goes on in it however often SLURM starts it."""
    with claim(point.folder):
        (point.folder / "failed.json").unlink(missing_ok=True)
        _describe(point)


def _describe(point: Point) -> None:
    write_text(point.folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(masked(point.job.overrides))))


def _wait(runs: dict[Path, Point], jobs: dict[Path, str]) -> dict[Path, str]:
    """Wait until every job has left the queue or its run is finished.

    Returns:
        Why a run has no result, for those that have none.
    """
    failed: dict[Path, str] = {}
    gone: dict[Path, float] = {}  # since when a job is neither in the queue nor its run finished
    left = dict(jobs)
    while left:
        waiting: dict[Path, queue.Queued] | None = {}
        for folder in {runs[run].submissions for run in left}:
            found = queue.pending(folder)
            waiting = None if found is None or waiting is None else waiting | found
        for run in list(left):
            if runs[run].finished:
                print(f"{len(jobs) - len(left) + 1}/{len(jobs)} {run.name} finished", flush=True)
            elif waiting is None or run in waiting:
                gone.pop(run, None)
                continue
            else:
                since = gone.setdefault(run, time.monotonic())
                settled = time.monotonic() - since > runs[run].settings["settle_seconds"]
                if not settled and not (run / "failed.json").exists():
                    continue
                failed[run] = _why(runs[run], left[run])
                print(f"{len(jobs) - len(left) + 1}/{len(jobs)} {run.name} failed: {failed[run]}", flush=True)
            del left[run]
        if left:
            time.sleep(runs[next(iter(left))].settings["poll_seconds"])
    return failed


def _why(point: Point, job: str) -> str:
    """The reason why a run has no result, with its job's log; it is written into a run that could not do so itself."""
    log = str(point.settings["submitit_folder"]).replace("%j", job)
    try:
        failed = json.loads((point.folder / "failed.json").read_text())
        return f"{failed['type']}: {failed['error']} (log: {log})"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    reason = f"job {job} ended without a result: {queue.ending(job) or 'SLURM keeps no record of it'} (log: {log})"
    Run(point.folder).fail(JobError(reason))
    return reason
