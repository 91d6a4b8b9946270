"""``cluster=local``: this machine, as many jobs at a time as it does fastest, each a fork of the driver.

A fork begins with all imports done, so that a job starts at once; one that is killed is a failed job among others, and
what it held goes with it. Several jobs of one thread are faster than one job of several wherever models are small.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from kdlab.command import build
from kdlab.command.sweep import Failed
from kdlab.error import JobError
from kdlab.launcher.point import Point, composed
from kdlab.launcher.share import cores, visible
from kdlab.run import Run, read_done


def launch(
    context: HydraContext, function: TaskFunction, config: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Do every job of a batch, in the order of ``overrides``."""
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    todo = [(first + place, list(words)) for place, words in enumerate(overrides)]
    asked = OmegaConf.select(config, "hydra.launcher.jobs")
    side_by_side = min(len(todo), at_a_time(asked, cores(1)))
    if side_by_side <= 1:
        return [_do(context, function, config, _job(context, config, words, number)) for number, words in todo]
    warm(config)
    ahead(composed(context, config, todo[0][1], todo[0][0]))
    threads = cores(side_by_side)
    done: dict[int, JobReturn] = {}
    running: dict[Any, tuple[Any, Connection, int, list[str]]] = {}
    fork = multiprocessing.get_context("fork")
    waiting = iter(todo)
    upcoming = _next(context, config, waiting)
    try:
        while len(done) < len(todo):
            while upcoming is not None and len(running) < side_by_side:
                number, words, job = upcoming
                mine, theirs = fork.Pipe(duplex=False)
                process = fork.Process(
                    target=_child, args=(theirs, threads, (context, function, config, job)), name=f"job-{number}"
                )
                process.start()
                theirs.close()
                running[mine] = process, mine, number, words
                upcoming = _next(context, config, waiting)  # while the others work
            for ready in wait(list(running)):
                process, mine, number, words = running.pop(ready)
                try:
                    done[number] = mine.recv()
                except EOFError:
                    process.join()
                    done[number] = _lost(context, config, words, number, process.exitcode or 0)
                process.join()
                mine.close()
    finally:
        for process, _, _, _ in running.values():  # interrupted: each leaves at the end of its step, or has left
            process.join()
    return [done[number] for number, _ in todo]


def _next(
    context: HydraContext, config: DictConfig, waiting: Iterator[tuple[int, list[str]]]
) -> tuple[int, list[str], DictConfig] | None:
    """The next job with its config, which takes a third of a second; None after the last."""
    number, words = next(waiting, (-1, []))
    return None if number < 0 else (number, words, _job(context, config, words, number))


def _job(context: HydraContext, config: DictConfig, words: list[str], number: int) -> DictConfig:
    """The config of a job."""
    job = context.config_loader.load_sweep_config(config, words)
    with open_dict(job):
        job.hydra.job.id, job.hydra.job.num = str(number), number
    return job


def at_a_time(asked: int | None, present: int) -> int:
    """How many jobs run side by side: as asked, else one a GPU, else one for each of the ``present`` cores."""
    return asked or len(visible()) or present


def warm(config: DictConfig) -> None:
    """Import what the jobs need, once for all of them; no thread is started, which a fork would lose."""
    import_module(f"kdlab.command.{config.hydra.job.config_name}")
    for target in sorted(set(_targets(OmegaConf.to_container(config, resolve=False)))):
        module = target.rpartition(".")[0]
        if module.startswith(("kdlab.", "torch.", "lightning.")):
            import_module(module)
    import_module("transformers.models.bert.modeling_bert")  # transformers loads families late; this one is the default
    import_module("pandas")  # W&B loads it late, for its tables


def ahead(point: Point) -> None:
    """Read the data of a point, for all jobs that have the same; what is wrong with it is the job's to say."""
    if not point.finished:
        with suppress(Exception):
            build.read_ahead(point.job.cfg)


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from _targets(inner)


def _do(context: HydraContext, function: TaskFunction, config: DictConfig, job: DictConfig) -> JobReturn:
    """One job in this process."""
    done = run_job(
        hydra_context=context, task_function=function, config=job, job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )  # fmt: skip
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    return done


def _child(result: Connection, threads: int, job: tuple) -> None:
    """A fork's whole life."""
    import torch

    torch.set_num_threads(threads)
    try:
        done = _do(*job)
        try:
            result.send(done)
        except Exception:  # what cannot be pickled is told in words
            done._return_value = JobError("".join(traceback.format_exception_only(done._return_value)).strip())
            result.send(done)
    except KeyboardInterrupt:
        os._exit(130)


def _lost(context: HydraContext, config: DictConfig, words: list[str], number: int, code: int) -> JobReturn:
    """The result of a job whose process ended without one."""
    point = composed(context, config, words, number)
    if (done := read_done(point.folder)) is not None:
        result = JobReturn(overrides=words, cfg=config, status=JobStatus.COMPLETED)
        result.working_dir, result._return_value = str(point.folder), done["value"]
        return result
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    hint = ", perhaps for lack of memory" if name == "SIGKILL" else ""
    reason = JobError(f"its process was ended by {name}{hint}; the same command goes on from the last checkpoint")
    Run(point.folder).fail(reason)
    lost: JobReturn = Failed(overrides=words, cfg=config, status=JobStatus.FAILED)
    lost._return_value = JobError(f"run {point.folder.name} failed: {reason}")
    return lost
