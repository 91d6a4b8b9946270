"""What a run prints: its plan when it begins, its result when it ends.

The plan goes to standard error and to run.log, the result to standard output. The jobs of a sweep leave both to
the sweep, which has a line and a table of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from kdlab import terminal
from kdlab.artifact.chain import asks_a_teacher
from kdlab.artifact.find import teacher_nodes, wanted
from kdlab.artifact.run import Run, read_done
from kdlab.artifact.trained import Trained
from kdlab.config.default_recipe import taken_as_it_is
from kdlab.config.direction import costs
from kdlab.config.job import Job
from kdlab.config.stage import earlier
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.key import PROCESSORS
from kdlab.datamodule.target import NUMBER
from kdlab.direction import TIMED
from kdlab.error import UserError
from kdlab.fit.beside import compared, distilled, shorter, teacher_test, without_teacher
from kdlab.model.save import size_bytes
from kdlab.module.base import TrainingRule
from kdlab.report.read import record
from kdlab.terminal import clock, counted
from kdlab.text import one_line

log = logging.getLogger(__name__)
_open: list[Voice] = []  # the runs that this process carries out, each for the one before it

SHARED = ("data", "teacher", "stage", "student", "model", "training")  # of a job's lines, what a sweep prints too, once
_noted: set[str] = set()  # these lines of the jobs that this process did


class Voice:
    """Prints the beginning and the end of one run.

    Args:
        job: of the run.
        parent: the printer of the run that needs this one first; None: the user asked for this run.
    """

    def __init__(self, job: Job, parent: Voice | None = None) -> None:
        self.job, self.parent = job, parent
        self.role = "run" if parent is None else parent.role_of(job)
        self.first: list[Path] = []  # the runs that this one needs and that were not finished when it began
        self.made: dict[Path, str] = {}  # those that this process has carried out, and how

    def begin(self, run: Run) -> None:
        """Name the run, and what it is for."""
        if self.parent is None:
            self._print_line("run", near(run.folder) + (", goes on from its checkpoint" if run.last_checkpoint else ""))
            self._as_it_is()
            if not self.quiet and run.last_checkpoint is None and (other := shorter(run.folder)) is not None:
                self._print_line("note", longer(other.name))
            return
        as_it_is = self.job.cfg.trainer.get("max_steps") == 0
        self.parent.made[run.folder] = "as it is" if as_it_is else "trained now"
        place, runs = self.parent.place_of(run.folder)
        how = "measured and saved as it is" if as_it_is else "trained first"
        self._print_line(self.role, f"{near(run.folder)}, is {how} ({place} of {runs} runs)")

    def _as_it_is(self) -> None:
        """That a pretrained language model teaches without training, where no other recipe was asked for."""
        if "teacher" in self.job.cfg and taken_as_it_is(self.job.cfg.teacher) and asks_a_teacher(self.job):
            name = self.job.choices.get("model@teacher.model", "the pretrained model")
            self._print_line("teacher", f"{name} teaches as it is; to fine-tune it first: teacher.recipe=[]")

    def data(self, data: Data) -> None:
        """The rows of each split, and the classes."""
        rows = ", ".join(f"{len(data.splits[name]):,} {name}" for name in ("train", "val", "test"))
        text = f"{one_line(data.source, 60)}: {rows} rows"
        known = sum(data.label_counts)
        if data.target.kind == NUMBER:
            text += f"; {known:,} training rows have a number"
        elif data.labels and known:
            share = max(data.label_counts) / (len(data.splits["train"]) if data.multi_label else known)
            largest = data.labels[data.label_counts.index(max(data.label_counts))]
            kind = "labels" if data.multi_label else "classes"
            text += f"; {len(data.labels)} {kind}, {100 * share:.1f}% of the training rows are {one_line(largest, 30)}"
            if not data.multi_label and known < len(data.splits["train"]):
                text += f" ({known:,} have a label)"
        self._print_line("data", text)

    def teachers(self, found: Mapping[str, Trained]) -> None:
        """Who teaches, and whether it was there."""
        for place, one in found.items():
            how = self.made.get(one.folder, "found")
            kept = str((read_done(one.folder) or {}).get("metric")) if (one.folder / "done.json").exists() else ""
            value = one.metrics.get(f"best/{kept}")
            reached = "" if value is None else f", its {kept} {value:.3f}"
            name = "" if len(found) == 1 else f"{place.rpartition('.')[2]}: "
            once = f"{name}{one_line(one.id)}" + (f" ({reached.removeprefix(', ')})" if reached else "")
            self._print_line("teacher", f"{name}{one_line(one.id)} ({how}{reached})", once)

    def learner(self, learner: TrainingRule, start: Trained | None) -> None:
        """What learns."""
        table = learner.table()
        name = self.job.choices.get("model@student") or self.job.choices.get("model") or type(learner.model).__name__
        every, learning = (sum(int(row[key]) for row in table) for key in ("parameters", "trainable"))
        text = f"{name}: {every:,} parameters, "
        blocks = [str(row["block"]) for row in table if row["trainable"]]
        text += "all learn" if learning == every else f"{learning:,} learn, in {_some(blocks)}"
        self._print_line("student" if "student" in self.job.cfg else "model", text)
        if start is not None:
            self._print_line("start", f"{one_line(start.id)}: its weights; the optimizer and all schedules begin anew")

    def training(self, trainer: Trainer, data: Data) -> None:
        """How long, and on what."""
        total, step = trainer.estimated_stepping_batches, trainer.global_step
        steps = "" if total == float("inf") else f"{int(total):,} steps of {data.rows_per_step:,} rows"
        epochs = counted(trainer.max_epochs, "epoch") if trainer.max_epochs and trainer.max_epochs > 0 else ""
        devices = trainer.num_devices * trainer.num_nodes
        device = trainer.strategy.root_device.type + (f" x {devices}" if devices > 1 else "")
        text = ", ".join(filter(None, [epochs, steps])) + f"; {device}, {trainer.precision}"
        self._print_line("training", text + (f"; goes on after step {step:,}" if step else ""))

    def finished(self, run: Run, known: Mapping[str, float]) -> None:
        """The result of a run that has just ended."""
        done = run.done or {}
        if self.parent is not None:
            self._print_line(self.role, f"{run.id} is finished: {_headline(done)}, in {clock(done.get('seconds', 0))}")
        elif not self.quiet:
            self._print([f"finished in {clock(done.get('seconds', 0))}: {_headline(done)}", *self._block(run, known)])

    def already(self, run: Run) -> None:
        """The same for one that was finished before."""
        done = run.done or {}
        line = f"{run.id} already finished: {_headline(done)}. Use rerun=true to train it again."
        if self.quiet or self.parent is not None:
            log.info("%s", line)
        else:
            self._print([line, *self._block(run, record(run.folder).metrics)])

    @property
    def quiet(self) -> bool:
        """Whether a sweep speaks for this run."""
        return self.job.sweep is not None or (self.parent is not None and self.parent.quiet)

    def role_of(self, job: Job) -> str:
        return "stage" if job.folder in [one.folder for one in earlier(self.job)] else "teacher"

    def place_of(self, folder: Path) -> tuple[int, int]:
        """Which of the runs that this one needs a run is, and how many there are with this one itself."""
        if folder not in self.first:
            self.first = [one.folder for one in earlier(self.job)] if "stages" in self.job.cfg else []
            if folder not in self.first:
                asked = [wanted(self.job, place, node) for place, node in teacher_nodes(self.job.cfg.teacher).items()]
                self.first = list(dict.fromkeys(one.folder for one in asked if isinstance(one, Job)))
            self.first = [one for one in self.first if one == folder or read_done(one) is None] or [folder]
        return self.first.index(folder) + 1 if folder in self.first else 1, len(self.first) + 1

    def _print_line(self, label: str, text: str, once: str = "") -> None:
        """Print a line, and write it to the log.

        Args:
            once: the text for a sweep, which prints equal lines of its jobs once; "": the same text.
        """
        head = f"{'  ' * (self.parent is not None)}{label:<9} "
        log.info("%s", head + text)
        line = head + (once or text)
        if not self.quiet:
            terminal.announce(head + text)
        elif label in SHARED and line not in _noted:
            _noted.add(line)
            terminal.note(line)

    def _print(self, lines: list[str]) -> None:
        print("\n".join(lines), flush=True)

    def _block(self, run: Run, known: Mapping[str, float]) -> list[str]:
        shown, beside = self._beside(run.folder, known)
        own = "student" if "student" in self.job.cfg else "model"
        lines = compared(shown, own, beside, run.done or {})
        size, kinds = size_bytes(run.folder / "model") / 1e6, costs([run.done or {}])
        latency = next((known[name] for name, kind in kinds.items() if kind == TIMED and name in known), None)
        speed = "" if latency is None else f"{latency:.2g} ms a row, "
        outputs = "" if Path(self.job.cfg.outputs) == Path("outputs") else f" outputs={self.job.cfg.outputs}"
        has_labels = (run.folder / "model" / "labels.json").exists()
        reads_texts = has_labels and any(name in self.job.cfg.datamodule for name in PROCESSORS)
        return [
            *lines,
            f"model  {near(run.folder / 'model')}  ({speed}{size:,.1f} MB)",
            f"next   kdlab evaluate run={run.id}{outputs}",
            *([f"       kdlab predict run={run.id} path=new.csv file=labelled.csv{outputs}"] if reads_texts else []),
            f"       to train it longer: the same command with {further(run.id)}",
        ]

    def _beside(self, folder: Path, known: Mapping[str, float]) -> tuple[Mapping[str, float], dict[str, Any]]:
        """The run's metrics with those of its teacher, and, by what to call them, those of what it is compared with."""
        if self.job.command != "distill":
            return known, {}
        try:
            if any(name.startswith("teacher/test/") for name in known):
                alone = without_teacher(folder)
                return known, {"without teacher": alone} if alone else {}
            best = distilled(folder)
            taught = {name: value for name, value in best.items() if name.startswith("teacher/test/")}
            return dict(known) | (taught or teacher_test(folder)), {"best distilled": best} if best else {}
        except UserError:  # it is only something to compare with
            return known, {}


def longer(name: str) -> str:
    """What to know where a run differs from a finished one only in its length: it does not go on with that one."""
    return (
        f"{name} is the same but shorter; this run begins from the start, since its schedules have another length. "
        f"To go on with the weights of that one instead: {further(name)}"
    )


def further(name: str) -> str:
    """How a finished run is trained longer, and what that is."""
    return (
        f"start={name} trainer.max_epochs=2 (a run of its own: 2 more epochs from the best weights; optimizer and "
        "schedules begin anew)"
    )


@contextmanager
def telling(job: Job) -> Iterator[Voice]:
    """The voice of a run, from its claim to its end; a run inside of it is one that it needs first."""
    voice = Voice(job, _open[-1] if _open else None)
    _open.append(voice)
    try:
        with _logged(job.folder) if voice.parent is not None else _nothing():
            yield voice
    finally:
        _open.remove(voice)


def near(path: Path) -> str:
    """A path as one would type it here."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _headline(done: Mapping[str, Any]) -> str:
    value = done.get("value")
    return str(done.get("metric")) + ("" if value is None else f" {value:.3f}")


def _some(names: list[str]) -> str:
    """A few names, and how many more."""
    if not names:
        return "nothing"
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more blocks" if len(names) > 4 else "")


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """Let what is logged go to the run.log of a run that another one needs, and not to that of the other."""
    root = logging.getLogger()
    own = (folder / "run.log").absolute()
    others = [one for one in root.handlers if isinstance(one, logging.FileHandler) and one.baseFilename != str(own)]
    if not others:  # there is no log
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    if own.is_symlink():
        raise UserError(f"{own} is a link, which no log is: somebody put it there; delete it")
    handler = logging.FileHandler(own, encoding="utf-8")
    handler.setFormatter(others[0].formatter)
    handler.setLevel(others[0].level)
    for one in others:
        root.removeHandler(one)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        for one in others:
            root.addHandler(one)


def interrupted(words: list[str]) -> str:
    """What the same command does after an interruption.

    Args:
        words: the command line after the verb.

    Example:
        >>> interrupted(["rerun=true"])
        'without rerun=true goes on from the last checkpoint'
    """
    after = "goes on from the last checkpoint"
    if {"-m", "--multirun"} & set(words):
        after = "goes on: finished jobs are kept, others go on from their last checkpoint"
    return f"without rerun=true {after}" if "rerun=true" in words else after
