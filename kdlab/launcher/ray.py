"""``cluster=ray``: the jobs of a sweep as Ray tasks, on this machine or on a cluster of Ray that runs already.

As with SLURM the run directory is the truth, which all nodes share: finished runs are not run, and a task whose worker
died is a failed job among others. Ray ends the tasks of a driver that dies; the same command goes on with their runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from kdlab.artifact.run import Run
from kdlab.error import JobError, UserError
from kdlab.launcher.point import Point, composed
from kdlab.launcher.resources import cores, visible

PASSED_ON = (
    "KDLAB_",
    "HF_HUB_",
    "TOKENIZERS_",
    "WANDB_MODE",
    "PYTHONPATH",
)  # of the environment; no keys: Ray shows it
STORE_BYTES = 100 * 2**20  # of Ray's own memory for objects: what passes through it is small


def launch(
    context: HydraContext, function: TaskFunction, config: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Bring every point of a batch to its end, in the order of ``overrides``."""
    if find_spec("ray") is None:
        raise UserError("cluster=ray needs Ray: pip install 'kdlab[ray]'")
    points = [composed(context, config, list(words), first + index) for index, words in enumerate(overrides)]
    runs = {point.folder: point for point in reversed(points)}  # two points can be one run, such as t=2 and t=2.0
    todo = [point for point in runs.values() if point.job.cfg.rerun or not point.finished]
    for point in runs.values():
        point.enroll()
    print(f"{len(runs)} runs: {len(runs) - len(todo)} finished before, {len(todo)} submitted", flush=True)
    failed = _do_all(context, function, config, todo) if todo else {}
    return [point.result(failed.get(point.folder, "")) for point in points]


def _do_all(context: HydraContext, function: TaskFunction, config: DictConfig, points: list[Point]) -> dict[Path, str]:
    """Do the points, as many at a time as Ray has room for.

    Returns:
        Why a run has no result, for those that have none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    _begin(ray, points)
    failed: dict[Path, str] = {}
    try:
        given = ray.put((context, function, config, Singleton.get_state(), str(Path.cwd())))
        task = ray.remote(_job)
        running: dict[Any, Point] = {}
        for point in points:
            asked = {"num_cpus": point.settings["cpus"], "num_gpus": _gpus(point), "name": point.folder.name}
            asked |= {"resources": point.settings["resources"], "max_retries": point.settings["retries"]}
            running[task.options(**asked).remote(given, point.overrides, point.number)] = point
        while running:
            (ready,), _ = ray.wait(list(running))
            point = running.pop(ready)
            if why := _why(ray, ready, point):
                failed[point.folder] = why
            how = f"failed: {why}" if why else "finished"
            print(f"{len(points) - len(running)}/{len(points)} {point.folder.name} {how}", flush=True)
    finally:
        ray.shutdown()
    return failed


def _begin(ray: Any, points: list[Point]) -> None:
    """Join the cluster, or start one on this machine."""
    settings = points[0].settings
    known = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    how: dict[str, Any] = {"runtime_env": {"env_vars": known}, "log_to_driver": False, "logging_level": "ERROR"}
    if settings["address"] is not None:
        try:
            ray.init(address=settings["address"], **how)
        except (ConnectionError, ValueError, RuntimeError) as problem:
            problem_text = " ".join(str(problem).split())
            raise UserError(f"cluster=ray: no Ray answers at {settings['address']} ({problem_text})") from problem
        return
    here = {"num_cpus": cores(1), "num_gpus": len(visible())}
    for point in points:
        asked = {"num_cpus": point.settings["cpus"], "num_gpus": _gpus(point)}
        for name, count in asked.items():
            if count > here[name]:
                key, kind = {"num_cpus": ("cpus", "cores"), "num_gpus": ("gpus", "GPUs")}[name]
                raise UserError(
                    f"hydra.launcher.{key}={count}, but this machine has {here[name]} {kind}: ask for less, or name a "
                    "cluster with hydra.launcher.address"
                )
    ray.init(
        address="local", include_dashboard=False, object_store_memory=STORE_BYTES, _node_ip_address="127.0.0.1",
        **here, **how,
    )  # fmt: skip


def _gpus(point: Point) -> float:
    """The number of GPUs that a job asks for; a fraction shares one."""
    asked, trainer = point.settings["gpus"], point.job.cfg.trainer
    if asked is not None:
        return asked
    if trainer.accelerator not in ("gpu", "cuda"):
        return 0
    if not isinstance(trainer.devices, int) or trainer.devices < 1:
        raise UserError(f"cluster=ray needs trainer.devices as a number, and not '{trainer.devices}'")
    return trainer.devices


def _job(given: tuple, words: list[str], number: int) -> str:
    """One job, in a process of Ray's: why it failed, or nothing."""

    context, function, config, state, folder = given
    os.chdir(folder)
    Singleton.set_state(state)
    job = context.config_loader.load_sweep_config(config, words)
    with open_dict(job):
        job.hydra.job.id, job.hydra.job.num = str(number), number
    Path(str(job.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    done = run_job(
        hydra_context=context, task_function=function, config=job, job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )  # fmt: skip
    try:
        done.return_value  # noqa: B018  raises what the run raised
    except Exception as problem:
        return f"{type(problem).__name__}: {' '.join(str(problem).split())}"
    return ""


def _why(ray: Any, task: Any, point: Point) -> str:
    """The reason why a task left no result, or ""; it is written into a run that could not do so itself."""
    try:
        problem_text = ray.get(task)
    except ray.exceptions.RayError as problem:
        first = str(problem).strip().splitlines()[0] if str(problem).strip() else ""
        problem_text = f"its worker died ({type(problem).__name__}: {first})"
        if not point.finished:
            Run(point.folder).fail(JobError(problem_text))
    if not problem_text or point.finished:
        return ""
    try:
        failed = json.loads((point.folder / "failed.json").read_text())
        return f"{failed['type']}: {failed['error']}"
    except (OSError, ValueError, KeyError, TypeError):
        return str(problem_text)
