"""``cluster=local``: this machine, as many jobs at a time as it does fastest, each a fork of the driver.

A fork begins with all imports done, and two more are prepared than there are places for, so that each trains as soon as
a place is free; a job that is killed is a failed job among others, and what it held goes with it. Several jobs of one
thread are faster than one job of several wherever models are small.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from kdlab import terminal
from kdlab.artifact import overlap
from kdlab.artifact.chain import asks_a_teacher
from kdlab.artifact.run import Run, read_done
from kdlab.config import build
from kdlab.config.verb import verbs
from kdlab.error import JobError
from kdlab.fit import slot
from kdlab.launcher.point import Point, composed
from kdlab.launcher.resources import cores, visible
from kdlab.launcher.status import EVERY, Status
from kdlab.launcher.sweep import Failed, forked
from kdlab.terminal import announce

PR_SET_PDEATHSIG = 1  # of prctl(2)
RESERVE = 2  # jobs that are prepared without a slot: those of one length that began together end together


@contextmanager
def _term_as_ctrl_c() -> Iterator[None]:
    """Take SIGTERM of the driver as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@_term_as_ctrl_c()
def launch(
    context: HydraContext, function: TaskFunction, config: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Do every job of a batch, in the order of ``overrides``."""
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    todo = [(first + index, list(words)) for index, words in enumerate(overrides)]
    asked = OmegaConf.select(config, "hydra.launcher.jobs")
    gpus = visible() if on_gpus(context, config, todo) else []
    side_by_side = min(len(todo), at_a_time(asked, len(gpus), cores(1)))
    shared = frozenset(set.intersection(*(set(words) for _, words in todo))) if len(todo) > 1 else frozenset()
    status = Status(len(todo), max(side_by_side, 1), shared)
    if side_by_side <= 1:
        return _one_by_one(context, function, config, todo, status)
    warm(config)
    ahead(composed(context, config, todo[0][1], todo[0][0]))
    threads = cores(side_by_side)
    reserve = 0 if gpus else RESERVE  # a GPU may have no room for one more
    done: dict[int, JobReturn] = {}
    running: dict[Any, _Fork] = {}  # by where its result comes from, the oldest first
    waiting = iter(todo)
    upcoming = _next(context, config, waiting)
    try:
        while len(done) < len(todo):
            while upcoming is not None and len(running) < side_by_side + reserve:
                number, words, job = upcoming
                started = _Fork(number, words, threads, (context, function, config, job))
                running[started.result] = started
                status.begin(number, words)
                _grant_slots(running, side_by_side, status)
                upcoming = _next(context, config, waiting)  # while the others work
            for ready in wait(list(running), timeout=EVERY if status.line.draws else None):
                if (message := running[ready].receive()) is not None:
                    status.receive(running[ready].number, *message)
                    continue
                ended = running.pop(ready)
                _grant_slots(running, side_by_side, status)
                done[ended.number] = ended.end() or _lost(context, config, ended)
                status.end(ended.number, done[ended.number])
            status.draw()
    finally:
        status.close()
        for left in running.values():  # interrupted: each leaves at the end of its step, or has left
            left.go(False)
            if left.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(left.process.pid, signal.SIGINT)  # which a terminal's Ctrl-C sends to all
            left.process.join()
    return [done[number] for number, _ in todo]


class _Fork:
    """A job in a process of its own, which prepares at once and trains when it is granted a slot.

    Attributes:
        result: the pipe that its :class:`JobReturn` comes from, or its end.
    """

    def __init__(self, number: int, words: list[str], threads: int, job: tuple) -> None:
        self.number, self.words = number, words
        fork = multiprocessing.get_context("fork")
        self.result, child_end = fork.Pipe(duplex=False)
        index, self.sign = fork.Pipe(duplex=False)
        self.process = fork.Process(
            target=_child, args=(child_end, index, threads, job, os.getpid()), name=f"job-{number}"
        )
        self.process.start()
        child_end.close()
        index.close()
        self.answered = False
        self.returned: JobReturn | None = None

    def receive(self) -> tuple[str, str] | None:
        """The kind and the text of a message from the job; None where it has ended."""
        with suppress(EOFError):
            message = self.result.recv()
            if isinstance(message, tuple):
                return message
            self.returned = message
        return None

    def go(self, train: bool = True) -> None:
        """Grant the slot, or refuse it for good; only the first call counts."""
        if not self.answered:
            self.answered = True
            with suppress(OSError):  # it has ended
                self.sign.send(train)

    def end(self) -> JobReturn | None:
        """The result; None where it ended without one."""
        self.process.join()
        self.result.close()
        self.sign.close()
        return self.returned


def _one_by_one(
    context: HydraContext, function: TaskFunction, config: DictConfig, todo: Sequence[tuple[int, list[str]]],
    status: Status,
) -> list[JobReturn]:  # fmt: skip
    """Do the jobs in this process, where each has a bar of its own."""
    results = []
    for number, words in todo:
        status.begin(number, words)
        status.grant(number)
        if len(todo) > 1:
            announce(f"job {number - todo[0][0] + 1} of {len(todo)}: {status.running[number].words}")
        job = _job(context, config, words, number)
        results.append(_do(context, function, config, job))
        status.receive(number, "run", str(terminal.carried_out))
        status.end(number, results[-1])
        status.close()
    return results


def _grant_slots(running: dict[Any, _Fork], slots: int, status: Status) -> None:
    """Grant the slots to the oldest jobs; the others receive one when one of these has ended."""
    for started in list(running.values())[:slots]:
        started.go()
        status.grant(started.number)


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


def at_a_time(asked: int | None, gpus: int, present: int) -> int:
    """The number of jobs side by side: as asked, else one a GPU, else one for each of the ``present`` cores."""
    return asked or gpus or present


def on_gpus(context: HydraContext, config: DictConfig, todo: Sequence[tuple[int, list[str]]]) -> bool:
    """Whether a job may train on a GPU: not where each has its trainer on the CPU."""
    trainers = {tuple(word for word in words if word.lstrip("+~").startswith("trainer")): words for _, words in todo}
    found = (composed(context, config, words, 0).job.cfg for words in trainers.values())
    return bool(visible()) and any(OmegaConf.select(cfg, "trainer.accelerator") != "cpu" for cfg in found)


def warm(config: DictConfig) -> None:
    """Import what the jobs need, once for all of them; no thread is started, which a fork would lose."""
    if (verb := verbs().get(config.hydra.job.config_name)) is not None:
        verb.load()
    for target in sorted(set(_targets(OmegaConf.to_container(config, resolve=False)))):
        module = target.rpartition(".")[0]
        if module.startswith(("kdlab.", "torch.", "lightning.")):
            import_module(module)
    import_module("transformers.models.bert.modeling_bert")  # transformers loads families late; this one is the default
    if wandb := sys.modules.get("wandb"):
        with suppress(AttributeError):
            wandb.util.working_set()  # see kdlab.logger.session
        import_module("pandas")  # W&B loads it late, for its tables


def ahead(point: Point) -> None:
    """Read the data of a point, for all jobs that have the same; its problems are raised by the job.

    Raises:
        UserError: its teacher learned from rows that it is measured on; points are checked before the first one trains.
    """
    if not (point.job.cfg.rerun or not point.finished):
        return
    data = None
    with suppress(Exception):
        data = build.read_ahead(point.job.cfg)
        overlap.known_digests(data)
    if data is not None and point.job.cfg.check and asks_a_teacher(point.job):
        overlap.check_teachers(point.job, data)


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


def _child(result: Connection, sign: Connection, threads: int, job: tuple, driver: int) -> None:
    """A fork's whole life."""
    import torch

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    forked()
    _end_with(driver)
    slot.reserve(sign)
    terminal.hand_over(partial(_hand_over, result))
    torch.set_num_threads(threads)
    try:
        done = _do(*job)
        try:
            result.send(done)
        except Exception:  # what cannot be pickled is sent as text
            done._return_value = JobError("".join(traceback.format_exception_only(done._return_value)).strip())
            result.send(done)
    except KeyboardInterrupt:
        os._exit(130)


def _end_with(driver: int) -> None:
    """Be interrupted, as by Ctrl-C, when the driver is killed: the job would go on unseen. Linux alone has this."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != driver:  # it was killed before
        os._exit(130)


def _hand_over(result: Connection, kind: str, text: str) -> None:
    with suppress(OSError):  # the driver is gone
        result.send((kind, text))


def _lost(context: HydraContext, config: DictConfig, job: _Fork) -> JobReturn:
    """The result of a job whose process ended without one."""
    words, code = job.words, job.process.exitcode or 0
    point = composed(context, config, words, job.number)
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
