"""Settings against each other: means over seeds, the no-teacher baseline, the teacher, the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kdlab.metric.direction import gathered, higher_is_better
from kdlab.report.read import Record
from kdlab.report.setting import Setting, is_number, setting, short, swept, text
from kdlab.report.statistic import Difference, Mean, average, paired


@dataclass
class Row:
    """One setting of one problem: its finished runs, and how they stand to the baseline and the teacher."""

    setting: Setting
    label: str
    runs: list[Record]
    baseline: bool
    mean: Mean | None = None
    difference: Difference | None = None
    against: str = ""  # the setting whose runs the difference is paired with
    kept: float | None = None  # percent of the teacher's value


@dataclass
class Comparison:
    """What the page shows, apart from curves.

    Attributes:
        subject: the runs that are compared (distill, else the command with most runs); keys: what differs in them.
        rows: settings, the best mean first, the largest first of a metric without a direction; teachers: metrics by
            teacher label.
        best: for each problem (data set) its best setting and the metric that it was chosen by; none for a metric that
            does not declare whether more is better.
        directions: what the metrics of these runs declare, see :mod:`kdlab.metric.direction`.
    """

    metric: str
    subject: list[Record]
    keys: list[str]
    names: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    teachers: dict[str, dict[str, float]] = field(default_factory=dict)
    best: dict[str, tuple[Row, str]] = field(default_factory=dict)
    directions: dict[str, bool | None] = field(default_factory=dict)


def is_baseline(record: Record) -> bool:
    """A distill run that no teacher speaks in: loss=ce, or no terms, or alpha fixed at 0."""
    loss = record.config.get("loss")
    if record.command != "distill" or not isinstance(loss, dict):
        return False
    alpha = loss.get("alpha")
    return record.choice.get("loss") == "ce" or not loss.get("terms") or (is_number(alpha) and alpha == 0)


def compare(records: Sequence[Record], metric: str) -> Comparison:
    """Group the runs by setting and hold each against the baseline with the same seeds."""
    commands = [record.command for record in records]
    main = "distill" if "distill" in commands else max(sorted(set(commands)), key=commands.count, default="")
    subject = [record for record in records if record.command == main]
    keys = swept(subject)
    result = Comparison(metric, subject, keys, short(keys), directions=gathered(run.done for run in records))
    more = higher_is_better(metric, result.directions)
    grouped: dict[Setting, list[Record]] = {}
    for record in subject:
        if record.state == "finished":
            grouped.setdefault(_setting_of(record, keys), []).append(record)
    for chosen, runs in grouped.items():
        values = list(_by_seed(runs, metric).values())
        mean = average(values) if values else None
        baseline = is_baseline(runs[0])
        name = label(chosen, result.names)
        result.rows.append(Row(chosen, f"no teacher {name}".strip() if baseline else name, runs, baseline, mean))
    sign = 1 if more is False else -1
    result.rows.sort(key=lambda row: (row.mean is None, sign * row.mean.mean if row.mean else 0.0, row.label))
    result.teachers = teachers(subject, records)
    for row in result.rows:
        _hold_against(row, result)
    for problem in dict.fromkeys(problem_of(row) for row in result.rows):
        _choose([row for row in result.rows if row.mean and problem_of(row) == problem], result, problem)
    return result


def teachers(subject: Sequence[Record], records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Metrics of each teacher: as its students' runs wrote them, else from the finetune run that they name."""
    by_id = {record.id: record for record in records if record.state == "finished"}
    found: dict[str, dict[str, float]] = {}
    for record in subject:
        metrics = {
            name.removeprefix("teacher/"): v for name, v in record.metrics.items() if name.startswith("teacher/")
        }
        run = teacher_run(record)
        if run in by_id:
            metrics = by_id[run].metrics | metrics
        if metrics and record.state == "finished":
            found.setdefault(teacher_name(record, metrics), {}).update(metrics)
    return found


def teacher_run(record: Record) -> str:
    """The id of the run that a distill run names as its teacher, or ""."""
    teacher = record.config.get("teacher")
    run = teacher.get("run") if isinstance(teacher, dict) else None
    return run.rstrip("/").rsplit("/", 1)[-1] if isinstance(run, str) else ""


def teacher_name(record: Record, metrics: dict[str, float]) -> str:
    """A name for the teacher of a run: its run, or its option, and the data where that can differ."""
    name = teacher_run(record) or record.choice.get("teacher.model") or record.choice.get("teacher") or "teacher"
    data = record.choice.get("datamodule", "")
    return f"{name} on {data}" if data else name


def label(chosen: Setting, names: dict[str, str]) -> str:
    """``temperature=2 alpha=0.5``: only what differs."""
    return " ".join(f"{names[key]}={text(value)}" for key, value in chosen if value is not None)


def _setting_of(record: Record, keys: Sequence[str]) -> Setting:
    """The setting of a run; what only a teacher's loss reads does not tell baselines apart."""
    chosen = setting(record, keys)
    if not is_baseline(record):
        return chosen
    return tuple((key, None if _of_teacher(key) else value) for key, value in chosen)


def _of_teacher(key: str) -> bool:
    return key.removeprefix("choice.").split(".")[0] in ("loss", "teacher")


def _hold_against(row: Row, result: Comparison) -> None:
    baseline = _baseline_for(row, result.rows)
    ours = _by_seed(row.runs, result.metric)
    if baseline is not None and baseline is not row:
        row.against = baseline.label
        row.difference = paired(ours, _by_seed(baseline.runs, result.metric))
    whole = [_teacher_value(run, result) for run in row.runs]
    known = [value for value in whole if value]
    if row.mean and known and len(known) == len(whole) and higher_is_better(result.metric, result.directions):
        row.kept = 100 * row.mean.mean / (sum(known) / len(known))


def _teacher_value(record: Record, result: Comparison) -> float | None:
    return result.teachers.get(teacher_name(record, {}), {}).get(result.metric)


def _baseline_for(row: Row, rows: Sequence[Row]) -> Row | None:
    """The baseline of the same student and data that shares most other settings; of equals, the strongest."""
    ours = dict(row.setting)

    def shared(other: Row) -> int:
        return sum(value == ours.get(key) for key, value in other.setting if not _of_teacher(key))

    def same_problem(other: Row) -> bool:
        mine, its = row.runs[0].choice, other.runs[0].choice  # the same student, task and data
        return all(mine.get(name) == its.get(name) for name in ("task", "datamodule", "student"))

    fitting = [other for other in rows if other.baseline and other.mean and same_problem(other)]
    return max(fitting, key=shared, default=None)  # rows are sorted, the best first, and max keeps the first


def _by_seed(runs: Sequence[Record], metric: str) -> dict[int | str, float]:
    """A value per seed (a seed that ran twice counts once); a run without a seed stands for itself."""
    found: dict[int | str, list[float]] = {}
    for run in runs:
        if metric in run.metrics:
            found.setdefault(run.id if run.seed is None else run.seed, []).append(run.metrics[metric])
    return {seed: average(values).mean for seed, values in found.items()}


def problem_of(row: Row) -> str:
    """The data set of a setting: values on different data do not compare."""
    return row.runs[0].choice.get("datamodule", "")


def _choose(rows: Sequence[Row], result: Comparison, problem: str) -> None:
    """The best taught setting by the validation twin of a test metric where all have one: the choice stays blind."""
    rows = [row for row in rows if not row.baseline] or rows
    twin = result.metric.replace("test/", "val/", 1)
    by = twin if all(twin in run.metrics for row in rows for run in row.runs) else result.metric
    more = higher_is_better(by, result.directions)

    def value(row: Row) -> float:
        return (1 if more else -1) * average(list(_by_seed(row.runs, by).values())).mean

    if rows and more is not None:
        result.best[problem] = (max(rows, key=value), by)


def counts(records: Sequence[Record]) -> dict[str, int]:
    """How many runs are in each state."""
    states = [record.state for record in records]
    return {state: states.count(state) for state in dict.fromkeys(states)}


def absent(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Jobs of a sweep, by their numbers, that left no run directory."""
    jobs: dict[tuple[str, str], set[int]] = {}
    for record in records:
        if record.group and record.job is not None and 0 <= record.job < 100_000:
            jobs.setdefault((record.command, record.group), set()).add(record.job)
    return [
        {"command": command, "group": group, "job": job}
        for (command, group), numbers in sorted(jobs.items())
        for job in range(max(numbers))
        if job not in numbers
    ]
