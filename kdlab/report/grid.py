"""The page's two tables, readable without a script: settings against the baseline, and every run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path

from kdlab.config.direction import primaries
from kdlab.direction import COUNTED, TIMED
from kdlab.report.column import Columns
from kdlab.report.compare import Comparison, Row, majorities, validation
from kdlab.report.cost import Costs
from kdlab.report.figure import cell, figure, interval, signed
from kdlab.report.read import Record
from kdlab.report.setting import text
from kdlab.report.state import counts
from kdlab.report.table import AMONG, best, ordered

NO_BASELINE = "No baseline: run the same command with loss=ce to train the student without a teacher."


def pairs(comparison: Comparison) -> str:
    """Settings, the best first: quality, what differs, the baseline with the same seeds, and cost."""
    rows = [row for row in comparison.rows if row.mean]
    if not rows:
        return ""
    metric = comparison.metric
    bounds = [
        abs(b) for row in rows if row.difference for b in (row.difference.low, row.difference.high) if b is not None
    ]
    means = [abs(row.difference.mean) for row in rows if row.difference]
    reach = min(max(bounds, default=0), 4 * max(means, default=0)) or max(means, default=0) or 1.0
    several = len({row.problem for row in rows}) > 1
    chosen = dict.fromkeys(by for by in comparison.chosen_by.values() if by != metric)
    measured = {name for row in rows for run in row.runs for name in run.metrics}
    known = Costs(comparison.subject)
    costs = [name for name in known.of(COUNTED, TIMED) if name in measured]
    others = [f"test/{name}" for name in primaries(run.done for row in rows for run in row.runs)]
    others = [name for name in others if name in measured and name != metric]
    within = any(row.within for row in rows)
    compared = any(row.difference for row in rows)
    head = [metric, *["data"] * several, *(comparison.names[key] for key in comparison.keys)]
    head += [*["95% of test rows"] * within, *chosen, "seeds", "sd", *["difference", "95% interval", ""] * compared]
    head += ["kept"] * any(row.kept for row in rows) + [name.rsplit("/", 1)[-1] for name in [*others, *costs]]
    body = []
    for row in rows:
        cells = [_number(row.mean.mean, f"<b>{figure(row.mean.mean, metric)}</b>")] if row.mean else []
        cells += [_value(row.problem)] * several + [_value(value) for _, value in row.setting]
        if within:
            words = f"{row.within[0]:.3f} … {row.within[1]:.3f}" if row.within else ""
            cells.append(f'<td class="num">{words}</td>')
        cells += [_number(value, figure(value, by)) for by in chosen for value in [row.average(by)]]
        sd = row.mean.sd if row.mean else None
        cells += [_number(row.mean.n if row.mean else None), _number(sd, "–" if sd is None else f"{sd:.4f}")]
        cells += _difference(row, reach) if compared else []
        if "kept" in head:
            cells.append(_number(row.kept, "" if row.kept is None else f"{row.kept:.1f}%"))
        for name in [*others, *costs]:
            timed = known.kinds.get(name) == TIMED
            value = known.steady(row.runs[0]).get(name) if timed else row.average(name)
            cells.append(_number(value, figure(value, name)))
        best = any(row is one for one in comparison.best.values())
        mark = "no teacher" if row.baseline else "★ best" if best else ""
        kind = "baseline" if row.baseline else "best" if best else ""
        body.append(f'<tr class="{kind}"><td><span class="tag">{mark}</span></td>{"".join(cells)}</tr>')
    body += _majority(comparison, head, several)
    return (
        '<section id="pairs" class="panel"><h2>Settings</h2>'
        f'<div class="scroll">{_table(["", *head], body)}</div><p class="muted note">{_note(comparison)}</p></section>'
    )


def _difference(row: Row, reach: float) -> list[str]:
    found = row.difference
    if found is None:
        return ['<td class="num"></td>', '<td class="num"></td>', "<td></td>"]
    words = "needs 2 seeds" if found.n < 2 else "equal gains: none"
    if found.low is not None and found.high is not None:
        words = f"{signed(found.low)} … {signed(found.high)}"
    mean = f"<b>{signed(found.mean)}</b>" if row.certain else signed(found.mean)
    picture = f'<td title="against {escape(row.against)}">{interval(found, reach, row.certain)}</td>'
    return [_number(found.mean, mean), f'<td class="num">{words}</td>', picture]


def _majority(comparison: Comparison, head: Sequence[str], several: bool) -> list[str]:
    """A row for the accuracy of always predicting the commonest class, for each problem that has it."""
    rows = []
    for problem, value in majorities(comparison).items():
        cells = [f'<td class="num" data-v="{value!r}"><b>{figure(value)}</b></td>']
        cells += [f"<td>{escape(problem) if several and name == 'data' else ''}</td>" for name in head[1:]]
        rows.append(f'<tr class="baseline"><td><span class="tag">majority</span></td>{"".join(cells)}</tr>')
    return rows


def _note(comparison: Comparison) -> str:
    """The meaning of the numbers that are in the table."""
    rows = [row for row in comparison.rows if row.mean]
    words = []
    for by in dict.fromkeys(comparison.chosen_by.values()):
        if by != comparison.metric:
            words.append(f"Settings are chosen by {escape(by)}, never by the test rows, which only report.")
        else:
            words.append("Chosen on the test set, so the score of the best is optimistic.")
    if any(row.within for row in rows):
        words.append("95% of test rows: what as many other rows might have given (Wilson), for the mean over seeds.")
    if against := sorted({row.against for row in rows if row.against}):
        which = against[0] if len(against) == 1 else "the baseline of the same student and data"
        words.append(f"Differences are to <b>{escape(which)}</b>, seed by seed, with Student's 95% interval.")
        tested = [sum(row.adjusted is not None for row in rows if row.problem == name) for name in comparison.best]
        if any(tested):
            words.append(
                f"A difference is bold only if it holds after Holm's correction for all {max(tested)} that are "
                "compared: by chance alone, 1 page in 20 has any."
            )
    else:
        words.append(NO_BASELINE)
    if (
        comparison.best
        and any(row.baseline for row in rows)
        and not any(row.baseline for row in comparison.best.values())
    ):
        words.append(f"★ marks the best setting; {AMONG}.")
    if any(row.kept for row in rows):
        words.append("Kept: percent of the teacher's value.")
    timed = Costs(comparison.subject).of(TIMED)
    if shown := [name for name in timed if any(name in run.metrics for row in rows for run in row.runs)]:
        names = ", ".join(name.rsplit("/", 1)[-1] for name in shown)
        words.append(f"{escape(names)}: the best that any run of the same architecture and machine measured.")
    return " ".join(words)


def runs(records: Sequence[Record], metric: str) -> str:
    """Every run: sortable, filterable, the unfinished ones too; quality and what differs first."""
    there = Columns(records)
    several = len(set(there.problems.values())) > 1
    chosen = validation(records, metric)
    first = [name for name in dict.fromkeys([metric, chosen]) if name in there.measured]
    more = [name for name in there.metrics if name in there.measured and name not in first]
    many = len({record.command for record in records}) > 1
    head = ["", *first, *["data"] * several, *(there.shown[key] for key in there.keys), "seed", "state"]
    head += [*["command"] * many, *more, "seconds", "run", "reason"]
    marks = best(records)
    body = [_run(record, there, (first, more), (several, many), marks) for record in ordered(records, chosen)]
    chips = "".join(
        f'<label class="chip"><input type="checkbox" value="{state}" checked> {state} <b>{count}</b></label>'
        for state, count in counts(records).items()
    )
    return (
        '<section id="runs" class="panel"><h2>All runs</h2><div class="controls">'
        '<label>Filter <input type="search" id="filter" placeholder="temperature=4 seed=1"></label>'
        f'{chips}<span class="muted" id="shown" aria-live="polite"></span></div>'
        f'<div class="scroll tall">{_table(head, body)}</div></section>'
    )


def _run(
    record: Record,
    there: Columns,
    metrics: tuple[Sequence[str], Sequence[str]],
    extra: tuple[bool, bool],
    marks: Collection[Path],
) -> str:
    flat, names = there.flats[record.folder], {key: there.shown[key] for key in there.keys}
    words = [record.id, record.command, record.state, record.group, record.reason, f"seed={record.seed}"]
    words += [f"{name}={text(flat.get(key))}" for key, name in names.items()]
    first, more = (
        [_number(record.metrics.get(name), figure(record.metrics.get(name), name)) for name in some] for some in metrics
    )
    star = '<span class="tag" title="the best of its command by validation">★</span>' if record.folder in marks else ""
    cells = [f"<td>{star}</td>", *first, *[_value(there.problems[record.folder])] * extra[0]]
    cells += [*(_value(flat.get(key)) for key in names), f"<td>{cell(record.seed)}</td>"]
    cells += [f'<td><span class="state {record.state}">{record.state}</span></td>']
    cells += [*[f"<td>{escape(record.command)}</td>"] * extra[1], *more]
    cells.append(_number(record.seconds, figure(record.seconds, "seconds")))
    cells.append(f'<td><code title="{escape(" ".join(record.overrides))}">{escape(record.id)}</code></td>')
    cells.append(f'<td class="reason">{escape(record.reason)}</td>')
    return f'<tr data-state="{record.state}" data-words="{escape(" ".join(words).lower())}">{"".join(cells)}</tr>'


def _value(value: object) -> str:
    words = cell(value)
    return f'<td class="value" data-v="{words}"' + (f' title="{words}"' if len(words) > 28 else "") + f">{words}</td>"


def _table(head: Sequence[str], body: Sequence[str]) -> str:
    cells = "".join(f"<th><button>{escape(name)}</button></th>" if name else "<th></th>" for name in head)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _number(value: float | None, words: str | None = None) -> str:
    plain = "" if value is None else repr(value)
    return f'<td class="num" data-v="{plain}">{plain if words is None else words}</td>'
