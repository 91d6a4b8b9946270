"""Who is measured, and how: kdlab in full through its own command line, each peer as one process a grid point."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice, product
from pathlib import Path
from statistics import mean
from typing import Any, final

from tests.benchmarks import environment, machine, setting
from tests.benchmarks.ratio import extrapolated
from tests.benchmarks.setting import Material

PEERS = ("plain_torch", "plain_torch_cached", "hf_trainer", "textbrewer", "torchdistill")


@dataclass(frozen=True)
class Case:
    """One piece of work that everyone does: a student over a grid of temperatures and alphas."""

    name: str
    student: str
    temperatures: tuple[float, ...]
    alphas: tuple[float, ...]
    epochs: int = 3

    @property
    def grid(self) -> list[tuple[float, float]]:
        return list(product(self.temperatures, self.alphas))


@dataclass
class Measurement:
    """What one contender took for one case once.

    Attributes:
        seconds: of the whole case; from parts of it where ``share`` or ``points`` say so.
        measured_seconds: wall time that was really spent.
        startup_seconds, training_seconds, evaluation_seconds: a run; training over all rows.
        share: of the training rows that were measured.
        points, runs: grid points that were measured, and those of the case.
        accuracies: on the test split, by ``T,alpha``, of the runs that were whole.
    """

    case: str
    contender: str
    column: str
    way: str
    repeat: int
    seconds: float
    measured_seconds: float
    startup_seconds: float
    training_seconds: float
    evaluation_seconds: float
    share: float
    points: int
    runs: int
    accuracies: dict[str, float] = field(default_factory=dict)

    @property
    def extrapolated(self) -> bool:
        return self.share < 1 or self.points < self.runs

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"extrapolated": self.extrapolated}


class Contender(ABC):
    """One way to do a case."""

    name: str
    column: str
    way: str

    @property
    def key(self) -> str:
        return f"{self.name}/{self.column}/{self.way}"

    @abstractmethod
    def measure(self, case: Case, material: Material, repeat: int) -> Measurement:
        """Do the case, or as much of it as was asked for."""


@final
@dataclass
class Kdlab(Contender):
    """``kdlab distill``, whole, into an empty outputs folder: teacher pass, validation, checkpoints, W&B."""

    rows: int | None = None
    device: str = "cpu"
    name: str = "kdlab"
    column: str = "default"
    way: str = "its own"

    def words(self, case: Case, material: Material, outputs: Path) -> list[str]:
        grid = [f"loss.temperature={joined(case.temperatures)}", f"loss.alpha={joined(case.alphas)}"]
        shared = setting.common(material.teacher, self.rows, case.epochs)
        words = [*shared, *setting.STUDENTS[case.student], f"outputs={outputs}", *grid]
        words += ["trainer=gpu"] if self.device.startswith("cuda") else []
        if len(case.grid) == 1:
            return ["distill", *words]
        return ["distill", "-m", *words]  # its default launcher fills the machine

    def measure(self, case: Case, material: Material, repeat: int) -> Measurement:
        outputs = machine.results() / "fresh"
        shutil.rmtree(outputs, ignore_errors=True)
        done = machine.alone(machine.kdlab(*self.words(case, material, outputs)))
        accuracies, training = {}, []
        for path in sorted(outputs.glob("distill/*/metrics.json")):
            metrics = json.loads(path.read_text())
            words = dict(word.split("=", 1) for word in _overrides(path.parent) if "=" in word)
            point = point_name(float(words["loss.temperature"]), float(words["loss.alpha"]))
            accuracies[point] = metrics["test/accuracy"]
            training.append(metrics["perf/samples_per_second"])
        if len(accuracies) != len(case.grid):
            raise RuntimeError(f"kdlab finished {len(accuracies)} of {len(case.grid)} runs: {done.said[-1500:]}")
        train_seconds = mean(material.rows * case.epochs / speed for speed in training)
        return Measurement(
            case.name, self.name, self.column, self.way, repeat, done.seconds, done.seconds, 0.0, train_seconds, 0.0,
            1.0, len(case.grid), len(case.grid), accuracies,
        )  # fmt: skip


@final
@dataclass
class Peer(Contender):
    """A peer's script, one process a grid point: one after the other with torch's threads, or two at a time with one.

    Args:
        share: of the training rows; below 1 this share and half of it are measured, see :func:`extrapolated`.
        points: how many grid points are measured at most; the others are taken to cost the same, since neither
            temperature nor alpha changes the work.
    """

    name: str
    column: str
    way: str = "1 process"
    share: float = 1.0
    points: int | None = None
    device: str = "cpu"

    def command(
        self, case: Case, material: Material, temperature: float, alpha: float, share: float | None = None
    ) -> list[str]:
        return [
            str(environment.python()), "-m", f"tests.benchmarks.peer.{self.name}", "--column", self.column,
            "--teacher", str(material.teacher), "--student", str(material.students[case.student]),
            "--data", str(material.data), "--temperature", str(temperature), "--alpha", str(alpha),
            "--epochs", str(case.epochs), "--lr", str(setting.RATES[case.student]), "--share", str(share or self.share),
            "--device", self.device,
        ]  # fmt: skip

    def measure(self, case: Case, material: Material, repeat: int) -> Measurement:
        width = 2 if self.way == "2 processes" else 1
        threads = 1 if width == 2 else None
        chosen = spaced(case.grid, self.points and max(self.points, width))  # who is alone has the machine to itself
        shares = [self.share] if self.share == 1 else [self.share, self.share / 2]
        spent, accuracies, parts = 0.0, {}, {share: [] for share in shares}
        for group in batched(chosen, width):
            for share in shares:
                done = machine.together([self.command(case, material, *point, share) for point in group], threads)
                spent += max(each.seconds for each in done)
                for point, each in zip(group, done, strict=True):
                    answer = each.answer
                    training, evaluation = answer["training_seconds"], answer["evaluation_seconds"]
                    parts[share].append((each.seconds - training - evaluation, training, evaluation))
                    if self.share == 1:
                        accuracies[point_name(*point)] = answer["accuracy"]
        startup, training, evaluation = (mean(part[place] for part in parts[self.share]) for place in range(3))
        if self.share < 1:
            half = mean(training for _, training, _ in parts[self.share / 2])
            training = extrapolated(training, half, self.share)
        seconds = total(startup + training + evaluation, len(case.grid), width)
        return Measurement(
            case.name, self.name, self.column, self.way, repeat, seconds, spent, startup, training, evaluation,
            self.share, len(chosen), len(case.grid), accuracies,
        )  # fmt: skip


def total(run: float, runs: int, width: int) -> float:
    """Seconds of ``runs`` equal runs, ``width`` at a time, each of ``run`` seconds beside the others."""
    return run * -(-runs // width)


def contenders(names: Sequence[str], case: Case, **settings: Any) -> list[Contender]:
    """The peers' columns and ways that make sense for a case."""
    found: list[Contender] = []
    for name in names:
        if name != "plain_torch_cached":
            found.append(Peer(name, "documented", **settings))
        found.append(Peer(name, "best", **settings))
        if len(case.grid) > 1 and not settings.get("device", "cpu").startswith("cuda"):
            found.append(Peer(name, "best", "2 processes", **settings))
    return found


def spaced(grid: list[tuple[float, float]], points: int | None) -> list[tuple[float, float]]:
    """At most ``points`` of a grid, spread over it."""
    if points is None or points >= len(grid):
        return grid
    return [grid[place * len(grid) // points] for place in range(points)]


def batched(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def joined(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def point_name(temperature: float, alpha: float) -> str:
    return f"{temperature:g},{alpha:g}"


def _overrides(folder: Path) -> list[str]:
    import yaml

    return [str(word) for word in yaml.safe_load((folder / "overrides.yaml").read_text())]
