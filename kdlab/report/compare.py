"""Settings against each other: means over seeds, the no-teacher baseline, the teacher, the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdlab.config.direction import higher_is_better, shares
from kdlab.direction import gathered
from kdlab.metric.majority import NAME as MAJORITY
from kdlab.metric.majority import OF
from kdlab.report.problem import problems, teacher_name, teacher_run
from kdlab.report.read import Record
from kdlab.report.setting import Setting, is_number, setting, short, swept, text
from kdlab.report.statistic import Difference, Mean, average, holm, paired, wilson

LEVEL = 0.05  # of chance that a page marks any setting although none differs


@dataclass
class Row:
    """One setting of one problem: its finished runs, compared with the baseline and the teacher.

    Attributes:
        problem: the name of its data; rows of other problems do not compare with it.
        mean, validation: over the seeds, of the metric that is compared and of the one that settings are chosen by.
        within: the interval over other test rows of the same kind, for an accuracy (Wilson, 95%).
        difference: to the setting named by `against`, seed by seed.
        adjusted: its p value after Holm's correction for all the differences of the problem.
        kept: percent of the teacher's value.
    """

    setting: Setting
    label: str
    runs: list[Record]
    baseline: bool
    problem: str = ""
    mean: Mean | None = None
    validation: Mean | None = None
    within: tuple[float, float] | None = None
    difference: Difference | None = None
    against: str = ""
    adjusted: float | None = None
    kept: float | None = None

    @property
    def certain(self) -> bool:
        """Whether the difference is more than chance gives one problem in twenty."""
        return self.adjusted is not None and self.adjusted < LEVEL

    def average(self, metric: str) -> float | None:
        """The mean of another metric over the seeds that have it."""
        values = list(by_seed(self.runs, metric).values())
        return average(values).mean if values else None


@dataclass
class Comparison:
    """The content of the page, apart from curves.

    Attributes:
        subject: the runs that are compared (distill, else the command with most runs); keys: what differs in them.
        rows: settings by problem, the best of each first, the largest first of a metric without a direction; teachers:
            metrics by teacher label.
        best: for each problem its best setting, none for a metric that does not declare whether more is better;
            chosen_by: the metric that decided that.
        directions: the directions of the metrics of these runs, see :mod:`kdlab.direction`.
        problems: the name of each run's data, by its folder.
    """

    metric: str
    subject: list[Record]
    keys: list[str]
    names: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    teachers: dict[str, dict[str, float]] = field(default_factory=dict)
    best: dict[str, Row] = field(default_factory=dict)
    chosen_by: dict[str, str] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)
    directions: dict[str, bool | None] = field(default_factory=dict)

    def less_is_better(self, metric: str) -> bool:
        """Whether these runs, or kdlab itself, declare so of a metric."""
        return higher_is_better(metric, self.directions) is False


def is_baseline(record: Record) -> bool:
    """A distill run without any influence of a teacher: loss=ce, or no terms, or alpha fixed at 0."""
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
    result = Comparison(metric, subject, keys, short(keys), problems=problems(records))
    result.directions = gathered(record.done for record in records)
    grouped: dict[tuple[str, Setting], list[Record]] = {}
    for record in subject:
        if record.state == "finished":
            grouped.setdefault((result.problems[record.folder], _setting_of(record, keys)), []).append(record)
    rows = []
    for (problem, chosen), runs in grouped.items():
        baseline, name = is_baseline(runs[0]), label(chosen, result.names)
        row = Row(chosen, f"no teacher {name}".strip() if baseline else name, runs, baseline, problem)
        values = list(by_seed(runs, metric).values())
        row.mean = average(values) if values else None
        row.within = _within(row, metric)
        rows.append(row)
    result.teachers = teachers(subject, records, result.problems)
    for problem in dict.fromkeys(row.problem for row in rows):
        _rank([row for row in rows if row.problem == problem], result)
    return result


def _rank(rows: list[Row], result: Comparison) -> None:
    """Order the settings of one problem, hold them against the baseline, and choose the best without its test."""
    metric = result.metric
    chosen_by = validation([run for row in rows for run in row.runs], metric)
    for row in rows:
        values = list(by_seed(row.runs, chosen_by).values())
        row.validation = average(values) if values else None
    more = higher_is_better(chosen_by, result.directions)
    by_sign = 1 if more is False else -1

    def place(row: Row) -> tuple:  # of equals the one that began first: the test decides nothing
        chosen = by_sign * row.validation.mean if row.validation else 0.0
        began = min((run.started or "", run.id) for run in row.runs)
        return row.mean is None, row.validation is None, chosen, began

    rows.sort(key=place)
    result.rows += rows
    for row in rows:
        _hold_against(row, rows, result)
    tested = [row for row in rows if row.difference and row.difference.p is not None]
    for row, p in zip(tested, holm([row.difference.p for row in tested]), strict=True):  # type: ignore[union-attr, misc]
        row.adjusted = p
    having = [row for row in rows if row.mean and row.validation]
    taught = [row for row in having if not row.baseline] or having
    if taught and more is not None:
        result.best[taught[0].problem] = taught[0]
        result.chosen_by[taught[0].problem] = chosen_by


def validation(records: Sequence[Record], metric: str, share: float = 1.0) -> str:
    """The metric that settings are chosen by: of the validation rows, where the finished runs have one.

    Args:
        metric: the reported metric, such as ``test/f1_macro``.
        share: of them that must have it, in (0, 1].

    Returns:
        ``best/val/f1_macro`` or ``val/f1_macro``, else what the runs kept their best weights by, else ``metric``.
    """
    measured = [record.metrics for record in records if record.state == "finished"]
    if not metric.startswith("test/") or not measured:
        return metric
    name = metric.removeprefix("test/")
    kept = sorted({str(record.done.get("metric")) for record in records if record.state == "finished"})
    twins = [f"best/val/{name}", f"val/{name}", *(f"best/{one}" for one in kept)]
    return next((twin for twin in twins if _share(twin, measured) >= share), metric)


def _share(metric: str, measured: Sequence[Mapping[str, float]]) -> float:
    return sum(metric in metrics for metrics in measured) / len(measured)


def _within(row: Row, metric: str) -> tuple[float, float] | None:
    """The interval that the number of test rows leaves; for an accuracy, a share of rows."""
    counts = {run.metrics.get("test/rows") for run in row.runs}
    count = counts.pop() if len(counts) == 1 else None
    share = metric.removeprefix("test/") in shares(run.done for run in row.runs)
    if not share or row.mean is None or not count or not 0 <= row.mean.mean <= 1:
        return None
    return wilson(row.mean.mean, int(count))


def company(chosen: Sequence[Record], every: Sequence[Record]) -> list[Record]:
    """The runs to compare chosen runs with, where not chosen themselves: finished baselines with the same student,
    task and test rows, and the runs of their teachers."""
    called, inside = problems(every), {record.folder for record in chosen}

    def kind(record: Record) -> tuple:
        return called[record.folder], *(record.choice.get(name) for name in ("task", "student"))

    kinds = {kind(record) for record in chosen if record.command == "distill"}
    teaching = {teacher_run(record) for record in chosen} - {""}
    return [
        record
        for record in every
        if record.folder not in inside
        and record.state == "finished"
        and ((is_baseline(record) and kind(record) in kinds) or record.id in teaching)
    ]


def teachers(
    subject: Sequence[Record], records: Sequence[Record], called: Mapping[Path, str]
) -> dict[str, dict[str, float]]:
    """Metrics of each teacher: as its students' runs wrote them, else from the finetune run that they name."""
    by_id = {record.id: record for record in records if record.state == "finished"}
    found: dict[str, dict[str, float]] = {}
    for record in subject:
        metrics = {
            name.removeprefix("teacher/"): v for name, v in record.metrics.items() if name.startswith("teacher/")
        }
        own = by_id.get(teacher_run(record))
        if own is not None:  # its results on other rows do not compare
            same = called.get(own.folder) == called.get(record.folder)
            metrics = {n: v for n, v in own.metrics.items() if same or n.startswith(("model/", "perf/"))} | metrics
        if metrics and record.state == "finished":
            found.setdefault(teacher_name(record, called), {}).update(metrics)
    return found


def label(chosen: Setting, names: dict[str, str]) -> str:
    """``temperature=2 alpha=0.5``: only what differs."""
    return " ".join(f"{names[key]}={text(value)}" for key, value in chosen if value is not None)


def _setting_of(record: Record, keys: Sequence[str]) -> Setting:
    """The setting of a run; keys that only a teacher's loss reads do not distinguish baselines."""
    chosen = setting(record, keys)
    if not is_baseline(record):
        return chosen
    return tuple((key, None if _of_teacher(key) else value) for key, value in chosen)


def _of_teacher(key: str) -> bool:
    return key.removeprefix("choice.").split(".")[0] in ("loss", "teacher")


def _hold_against(row: Row, rows: Sequence[Row], result: Comparison) -> None:
    baseline = _baseline_for(row, rows)
    if baseline is not None and baseline is not row:
        row.against = baseline.label
        row.difference = paired(by_seed(row.runs, result.metric), by_seed(baseline.runs, result.metric))
    whole = [teacher_value(run, result) for run in row.runs]
    known = [value for value in whole if value]
    if row.mean and known and len(known) == len(whole) and higher_is_better(result.metric, result.directions):
        row.kept = 100 * row.mean.mean / (sum(known) / len(known))


def teacher_value(record: Record, result: Comparison) -> float | None:
    """The result of a run's teacher on the same data."""
    return result.teachers.get(teacher_name(record, result.problems), {}).get(result.metric)


def _baseline_for(row: Row, rows: Sequence[Row]) -> Row | None:
    """The baseline of the same student and task that shares most other settings; of equals, the strongest."""
    ours = dict(row.setting)

    def shared(other: Row) -> int:
        return sum(value == ours.get(key) for key, value in other.setting if not _of_teacher(key))

    def same_student(other: Row) -> bool:
        this, that = row.runs[0].choice, other.runs[0].choice
        return all(this.get(name) == that.get(name) for name in ("task", "student"))

    fitting = [other for other in rows if other.baseline and other.mean and same_student(other)]
    return max(fitting, key=shared, default=None)  # rows are sorted, the best first, and max keeps the first


def by_seed(runs: Sequence[Record], metric: str) -> dict[int | str, float]:
    """A value per seed (a seed that ran twice counts once); a run without a seed counts alone."""
    found: dict[int | str, list[float]] = {}
    for run in runs:
        if metric in run.metrics:
            found.setdefault(run.id if run.seed is None else run.seed, []).append(run.metrics[metric])
    return {seed: average(values).mean for seed, values in found.items()}


def majorities(comparison: Comparison) -> dict[str, float]:
    """The accuracy of always predicting the commonest class on the test rows of each problem."""
    found: dict[str, float] = {}
    for row in comparison.rows:
        for run in row.runs:
            if comparison.metric == f"test/{OF}" and f"test/{MAJORITY}" in run.metrics:
                found.setdefault(row.problem, run.metrics[f"test/{MAJORITY}"])
    return found
