"""The page's two tables, readable without a script: settings against the baseline, and every run."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from kdlab.report.compare import Comparison, Row, counts
from kdlab.report.figure import cell, figure, interval, signed
from kdlab.report.read import Record
from kdlab.report.setting import flatten, short, swept, text
from kdlab.report.table import METRICS, ordered


def pairs(comparison: Comparison) -> str:
    """Settings against the baseline with the same seeds."""
    rows = [row for row in comparison.rows if row.mean]
    if not rows:
        return ""
    bounds = [
        abs(b) for row in rows if row.difference for b in (row.difference.low, row.difference.high) if b is not None
    ]
    means = [abs(row.difference.mean) for row in rows if row.difference]
    reach = min(max(bounds, default=0), 4 * max(means, default=0)) or max(means, default=0) or 1.0
    head = [comparison.names[key] for key in comparison.keys]
    named = ["", *head, "seeds", "mean", "sd", "pairs", "difference", "95% interval", "", "kept"]
    body = [_pair(row, comparison, reach) for row in rows]
    against = sorted({row.against for row in rows if row.against})
    told = "There is no baseline (loss=ce) to compare with."
    if against:
        which = (
            against[0] if len(against) == 1 else "the baseline of the same student and data (each interval names it)"
        )
        told = f"Differences are to <b>{escape(which)}</b>, seed by seed."
    compared = sum(row.difference is not None and row.difference.low is not None for row in rows)
    note = (
        f"{told} Interval: Student's t over the seeds; with two seeds it is very wide. "
        f"{compared} intervals at 95%, not corrected for their number: about {compared * 0.05:.1f} would "
        "miss zero by chance alone. "
        "Kept: percent of the teacher's value."
    )
    return (
        '<section id="pairs" class="panel"><h2>Against the baseline, seed by seed</h2>'
        f'<div class="scroll">{_table(named, body)}</div><p class="muted note">{note}</p></section>'
    )


def runs(records: Sequence[Record], metric: str) -> str:
    """Every run: sortable, filterable, the unfinished ones too."""
    keys = swept(records)
    names = short(keys)
    measured = {name for record in records for name in record.metrics}
    metrics = [name for name in dict.fromkeys([metric, *METRICS]) if name in measured]
    many = len({record.command for record in records}) > 1
    head = ["state", *(["command"] * many), "run", *(names[key] for key in keys), "seed", *metrics, "seconds", "reason"]
    body = [_run(record, names, metrics, many) for record in ordered(records, metric)]
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


def _pair(row: Row, comparison: Comparison, reach: float) -> str:
    best = any(row is best for best, _ in comparison.best.values())
    mark = "no teacher" if row.baseline else "best" if best else ""
    cells = [f'<td><span class="tag">{mark}</span></td>', *(_value(value) for _, value in row.setting)]
    if row.mean:
        sd = "–" if row.mean.sd is None else f"{row.mean.sd:.4f}"
        cells += [_number(row.mean.n), _number(row.mean.mean, figure(row.mean.mean, comparison.metric))]
        cells += [_number(row.mean.sd, sd)]
    found = row.difference
    if found is None:
        cells += ['<td class="num"></td>', '<td class="num"></td>', '<td class="num"></td>', "<td></td>"]
    else:
        told, mean = "needs 2 pairs", signed(found.mean)
        if found.low is not None and found.high is not None:
            told = f"{signed(found.low)} … {signed(found.high)}"
            mean = f"<b>{mean}</b>" if found.low > 0 or found.high < 0 else mean
        cells += [_number(found.n), _number(found.mean, mean), f'<td class="num">{told}</td>']
        cells += [f'<td title="against {escape(row.against)}">{interval(found, reach)}</td>']
    cells.append(_number(row.kept, "" if row.kept is None else f"{row.kept:.1f}%"))
    return f'<tr class="{"baseline" if row.baseline else ""}">{"".join(cells)}</tr>'


def _run(record: Record, names: dict[str, str], metrics: Sequence[str], many: bool) -> str:
    flat = flatten(record.config)
    words = [record.id, record.command, record.state, record.group, record.reason, f"seed={record.seed}"]
    words += [f"{name}={text(flat.get(key))}" for key, name in names.items()]
    cells = [f'<td><span class="state {record.state}">{record.state}</span></td>']
    cells += [f"<td>{escape(record.command)}</td>"] * many
    cells.append(f'<td><code title="{escape(" ".join(record.overrides))}">{escape(record.id)}</code></td>')
    cells += [*(_value(flat.get(key)) for key in names), f"<td>{cell(record.seed)}</td>"]
    cells += [_number(record.metrics.get(name), figure(record.metrics.get(name), name)) for name in metrics]
    cells.append(_number(record.seconds, figure(record.seconds, "seconds")))
    cells.append(f'<td class="reason">{escape(record.reason)}</td>')
    return f'<tr data-state="{record.state}" data-words="{escape(" ".join(words).lower())}">{"".join(cells)}</tr>'


def _value(value: object) -> str:
    return f'<td data-v="{cell(value)}">{cell(value)}</td>'


def _table(head: Sequence[str], body: Sequence[str]) -> str:
    cells = "".join(f"<th><button>{escape(name)}</button></th>" if name else "<th></th>" for name in head)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _number(value: float | None, told: str | None = None) -> str:
    plain = "" if value is None else repr(value)
    return f'<td class="num" data-v="{plain}">{plain if told is None else told}</td>'
