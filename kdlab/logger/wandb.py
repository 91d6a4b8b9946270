"""Weights & Biases: one W&B run per job, offline unless a key and a server are there, and checked when it ends."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.utilities import rank_zero_only

from kdlab.error import UserError
from kdlab.logger.base import Recorder, RunInfo, SampleLogger, Source
from kdlab.logger.history import FILE
from kdlab.logger.resume_gap import STEP, known, lost, unknown
from kdlab.logger.session import choose, end, start
from kdlab.logger.wandb_log import settled
from kdlab.value import Mode, NonNegative, Project

log = logging.getLogger(__name__)

MODES = ("auto", "offline", "online", "disabled")
SETTLE_SECONDS = 30.0  # how long W&B may write after finish(): over a second where 8 jobs share 2 cores
LONGEST_NAME, LONGEST_TAG = 128, 64  # what the server takes


class WandB(Recorder, SampleLogger):
    """Logs one job to ``<outputs>/wandb/(offline-)run-<time>-<id>``; staged files lie beside it.

    A restart of a run has the same id and one more directory; the server merges them. It begins with the rows that the
    earlier directories have lost in a kill, and repeats no value that they have. No failure of W&B stops the training:
    going online falls back to offline, and losses while logging are reported once.

    Args:
        mode: ``auto`` (WANDB_MODE if set, else online where a key and a server are found, else offline), ``offline``,
            ``online`` (offline with a warning where it fails) or ``disabled``.
        entity: the W&B team or user; None: the variable WANDB_ENTITY, or the key's own. An offline run keeps what it is
            given here, and a sync can link a student to its teacher only where it is known.
        probe_seconds: longest wait for an answer of the server before going on offline.
        start_seconds, finish_seconds: longest time of an online run to start and to end.
    """

    def __init__(
        self,
        info: RunInfo,
        project: Project = "kdlab",
        entity: Project | None = None,
        mode: Mode = "auto",
        probe_seconds: NonNegative = 2.0,
        start_seconds: NonNegative = 20.0,
        finish_seconds: NonNegative = 120.0,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise UserError(f"logger.wandb.mode={mode} is unknown: choose one of {', '.join(MODES)}.")
        self.info = info
        self.rows = 0
        self.problems: list[str] = []
        self.probe_seconds = probe_seconds
        root = place(info.outputs)
        mode = "disabled" if getattr(rank_zero_only, "rank", 0) else choose(mode, probe_seconds)
        there = known(root, info.id) if mode != "disabled" else None
        self.known = there if there and mode == "offline" else {}  # a server may lack what an online log has
        with self._temporary():
            self.run = start(
                mode,
                {"start": start_seconds, "finish": finish_seconds},
                id=info.id,
                dir=str(root.parent),
                project=project,
                entity=entity or os.environ.get("WANDB_ENTITY"),
                group=_cut("group", info.group, LONGEST_NAME) or None,
                job_type=info.command,
                name=(info.name or info.id)[:LONGEST_NAME],
                tags=[_cut("tag", tag, LONGEST_TAG) for tag in info.tags],
                config=_config(info),
            )
        self.run.define_metric(STEP)
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric=STEP)
        if info.teacher is not None:
            self._consume(info.teacher)
        if info.resumed_step and there is not None:
            for row in lost(there, info.folder / FILE):
                self._log(row)

    @property
    def experiment(self) -> wandb.Run:
        return self.run

    @property
    def name(self) -> str:
        return self.run.project or "kdlab"

    @property
    def version(self) -> str:
        return self.info.id

    @property
    def save_dir(self) -> str:
        return str(self.info.outputs)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the resolved config went with the run when it started."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        # never W&B's own step: it would drop every row that comes with a smaller one, such as after a resume
        if new := unknown(self.known, int(step or 0), metrics):
            self._log(new | {STEP: int(step or 0)})

    @rank_zero_only
    def summary(self, values: Mapping[str, float | str]) -> None:
        self.run.summary.update(dict(values))

    @rank_zero_only
    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        with self._temporary():
            self._log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    @rank_zero_only
    def samples(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        if name not in self.known.get(step, {}):  # a resumed run repeats the steps after its checkpoint
            with self._temporary():
                self._log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows]), STEP: step})

    @rank_zero_only
    def curve(self, name: str, x: Mapping[str, Sequence[float]], y: Mapping[str, Sequence[float]]) -> None:
        (x_name, xs), (y_name, ys) = *x.items(), *y.items()
        table = wandb.Table(columns=[x_name, y_name], data=[list(pair) for pair in zip(xs, ys, strict=True)])
        with self._temporary():
            self._log({name: wandb.plot.line(table, x_name, y_name, title=name)})

    @rank_zero_only
    def produce(self, source: Source) -> None:
        self.run.log_artifact(artifact(source))

    @rank_zero_only
    def close(self, exit_code: int) -> None:
        file = Path(self.run.settings.sync_file) if not self.run.disabled else None
        try:
            left = end(self.run, exit_code, self.probe_seconds)
        except Exception as error:  # SLURM signals all processes of a job, and there may be little time left
            log.warning(
                "W&B's service ended before the run (%r); what its log lacks is logged when the run goes on", error
            )
            return
        if left:
            log.warning("%s", left)
        if file is None:
            return
        self.problems += settled(file, self.rows, SETTLE_SECONDS)
        for problem in self.problems:
            log.warning("W&B's log %s is not whole: %s The curves are in history.csv.", file, problem)

    @contextmanager
    def _temporary(self) -> Iterator[None]:
        """Let W&B's temporary files be in the run directory, where the next claim removes what a kill leaves."""
        before, folder = tempfile.tempdir, self.info.folder / "wandb.part"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)

    def _log(self, row: dict[str, Any]) -> None:
        try:
            self.run.log(row)
        except Exception as error:  # whatever W&B's service dies of must not end a training
            if not self.problems:
                log.warning("W&B takes no more rows (%s); the training goes on, history.csv has them.", error)
                self.problems.append(f"logging failed: {error}")
        self.rows += 1

    def _consume(self, teacher: Source) -> None:
        """Declare the teacher's weights as this run's input.

        ``Run.use_artifact`` asks the server, so it cannot work offline. What it does online, W&B's private
        ``_log_artifact(use_after_commit=True)``, works in both; should it change, the config still names the teacher.
        """
        try:
            self.run._log_artifact(artifact(teacher), is_user_created=True, use_after_commit=True)
        except Exception as error:
            log.warning("the teacher is named in W&B's config only, not as an input artifact: %s", error)


def _cut(what: str, name: str, longest: int) -> str:
    """A name as W&B takes it; a warning names what is lost of it."""
    if len(name) > longest:
        log.warning("W&B takes %d characters of a %s, so '%s' is cut there; runs keep it whole", longest, what, name)
    return name[:longest]


def artifact(source: Source) -> wandb.Artifact:
    """The weights of a run, by reference: nothing is copied. The same weights give the same artifact in every run."""
    about = {"run_id": source.id, "sha256": source.sha256}
    made = wandb.Artifact(f"model-{source.id}"[:LONGEST_NAME], "model", metadata=about)
    made.add_reference(Path(source.weights).resolve().as_uri(), name=Path(source.weights).name, checksum=True)
    return made


def place(outputs: Path) -> Path:
    """``<outputs>/wandb``, with W&B's staging area and cache under it: what a later sync needs stays with the runs."""
    root = Path(outputs).resolve() / "wandb"
    for variable, folder in {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache"}.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(root / folder)
    return root


def _config(info: RunInfo) -> dict[str, Any]:
    config = dict(info.config)
    if info.teacher is not None:
        group = config.get("teacher")
        named = {"run_id": info.teacher.id, "sha256": info.teacher.sha256}
        config["teacher"] = (dict(group) if isinstance(group, Mapping) else {}) | named
    return config
