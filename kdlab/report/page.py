"""One self-contained HTML page over a set of runs: no server, no network, no image but what it draws itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from importlib.resources import files

from kdlab.report.compare import Comparison, absent, compare, counts
from kdlab.report.figure import cell, figure, interval, signed
from kdlab.report.payload import payload, script
from kdlab.report.read import Record
from kdlab.report.setting import flatten, short, swept, text
from kdlab.report.table import METRICS

SCRIPTS = ("chart.js", "heat.js", "scatter.js", "curve.js", "table.js")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(records: Sequence[Record], metric: str, title: str, place: str) -> str:
    """The whole page.

    Args:
        metric: what settings are compared by.
        place: where the runs lie, for the reader of the page.
    """
    comparison = compare(records, metric)
    parts = [
        headline(records, comparison, title, place),
        trouble(records),
        shell("heat", "Where it works", "Mean over seeds; ± is the standard deviation, n the number of seeds."),
        shell("scatter", "Quality against cost", ""),
        pairs(comparison),
        shell("curves", "Learning curves", ""),
        runs(records, metric),
    ]
    style = _file("page.css")
    code = "\n".join(_file(name) for name in SCRIPTS)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{style}</style></head><body><main>'
        + "\n".join(part for part in parts if part)
        + "<footer>Made by <code>kdlab report</code> from the run directories alone.</footer></main>"
        '<div id="tip" role="status" hidden></div>'
        f'<script type="application/json" id="data">{script(payload(comparison, metric))}</script>'
        f"<script>{code}</script></body></html>\n"
    )


def headline(records: Sequence[Record], comparison: Comparison, title: str, place: str) -> str:
    """What was compared, the best, the baseline and the teacher."""
    metric, best = comparison.metric, comparison.best
    states = ", ".join(f"<b>{count}</b> {state}" for state, count in counts(records).items())
    lost = len(absent(records))
    states += f", <b>{lost}</b> missing" if lost else ""
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    keys = ", ".join(f"<b>{escape(comparison.names[key])}</b>" for key in comparison.keys) or "nothing but seeds"
    seeds = len({run.seed for run in comparison.subject if run.seed is not None})
    what = f"Varied: {keys}; {len(comparison.rows)} settings with finished runs, {seeds} seed{'s' * (seeds != 1)}."
    cards = []
    if best and best.mean:
        how = "its validation value" if comparison.chosen_by != metric else "this same value, so expect a little less"
        note = f"{best.label}<br><span class=muted>mean of {_seeds(best.mean.n)}; chosen by {escape(how)}</span>"
        cards.append(_card("Best setting", _spread(best.mean), note.replace(best.label, escape(best.label or "–"), 1), "best"))
    base = next((row for row in comparison.rows if row.baseline and row.mean), None)
    if base and base.mean:
        cards.append(_card("No teacher", _spread(base.mean), f"{escape(base.label)}<br><span class=muted>mean of {_seeds(base.mean.n)}</span>", "base"))
    else:
        cards.append(_card("No teacher", "–", "No finished run without a teacher (loss=ce): gains cannot be told.", "base"))
    for name, metrics in list(comparison.teachers.items())[:4]:
        size = metrics.get("model/parameters")
        note = escape(name) + (f"<br><span class=muted>{figure(size, 'parameters')} parameters</span>" if size else "")
        cards.append(_card("Teacher", figure(metrics.get(metric), metric), note, "teacher"))
    if best and best.difference:
        low, high = best.difference.low, best.difference.high
        reach = "one seed: no interval" if low is None or high is None else f"95% interval {signed(low)} to {signed(high)}"
        kept = f"; keeps {best.kept:.1f}% of the teacher" if best.kept else ""
        cards.insert(1, _card("Gain by the teacher", signed(best.difference.mean), f"over the same seeds<br><span class=muted>{reach}{kept}</span>", "gain"))
    return (
        f"<header><h1>{escape(title)}</h1><p>{states} runs in <code>{escape(place)}</code>. {what}</p>"
        f'<p class="muted">Compared by <code>{escape(metric)}</code>. Written {escape(when)}.</p></header>'
        f'<section class="cards" aria-label="Headline">{"".join(cards)}</section>'
    )


def trouble(records: Sequence[Record]) -> str:
    """Runs that are in no mean, each with its reason."""
    lines = [
        f'<li><span class="state {record.state}">{record.state}</span> <code>{escape(record.id)}</code> {escape(record.reason)}</li>'
        for record in records
        if record.state != "finished"
    ]
    lines += [
        f'<li><span class="state missing">missing</span> job {gap["job"]} of <code>{escape(gap["command"])}</code> sweep '
        f"<code>{escape(gap['group'])}</code> left no directory: it never started, or its settings had run before</li>"
        for gap in absent(records)
    ]
    if not lines:
        return ""
    few = " open" if len(lines) <= 8 else ""
    return f'<details class="trouble"{few}><summary>Not in the numbers below: {len(lines)}</summary><ul>{"".join(lines)}</ul></details>'


def shell(name: str, heading: str, note: str) -> str:
    """A section that the page's own script fills."""
    return (
        f'<section id="{name}" class="panel"><h2>{heading}</h2><div class="controls"></div><div class="body">'
        f'<noscript>This drawing needs JavaScript; the tables do not.</noscript></div><p class="muted note">{note}</p></section>'
    )


def pairs(comparison: Comparison) -> str:
    """Settings against the baseline with the same seeds."""
    rows = [row for row in comparison.rows if row.mean]
    if not rows:
        return ""
    bounds = [abs(b) for row in rows if row.difference for b in (row.difference.low, row.difference.high) if b is not None]
    means = [abs(row.difference.mean) for row in rows if row.difference]
    reach = min(max(bounds, default=0), 4 * max(means, default=0)) or max(means, default=0) or 1.0
    head = [comparison.names[key] for key in comparison.keys]
    named = ["", *head, "seeds", "mean", "sd", "pairs", "difference", "95% interval", "", "kept"]
    body = []
    for row in rows:
        assert row.mean
        mark = "no teacher" if row.baseline else "best" if row is comparison.best else ""
        values = "".join(f'<td data-v="{cell(value)}">{cell(value)}</td>' for _, value in row.setting)
        line = f'<td><span class="tag">{mark}</span></td>{values}' + _number(row.mean.n, str(row.mean.n))
        line += _number(row.mean.mean, figure(row.mean.mean, comparison.metric)) + _number(row.mean.sd, figure(row.mean.sd))
        if row.difference:
            low, high = row.difference.low, row.difference.high
            sure = low is not None and high is not None and (low > 0 or high < 0)
            told = "needs 2 pairs" if low is None or high is None else f"{signed(low)} … {signed(high)}"
            line += _number(row.difference.n, str(row.difference.n))
            line += _number(row.difference.mean, f"<b>{signed(row.difference.mean)}</b>" if sure else signed(row.difference.mean))
            line += f'<td class="num">{told}</td><td title="against {escape(row.against)}">{interval(row.difference, reach)}</td>'
        else:
            line += '<td class="num"></td><td class="num"></td><td></td><td></td>'
        line += _number(row.kept, f"{row.kept:.1f}%" if row.kept is not None else "")
        body.append(f'<tr class="{"baseline" if row.baseline else ""}">{line}</tr>')
    against = sorted({row.against for row in rows if row.against})
    told = f"Differences are to <b>{escape('; '.join(against))}</b>, seed by seed." if against else "There is no baseline (loss=ce) to compare with."
    compared = sum(row.difference is not None and row.difference.low is not None for row in rows)
    note = (
        f"{told} Interval: Student's t over the seeds; with two seeds it is very wide. "
        f"{compared} intervals at 95%, not corrected for their number: about {compared * 0.05:.1f} would miss zero by chance alone. "
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
    body = []
    for record in sorted(records, key=lambda record: (record.state != "finished", record.command, record.id)):
        flat = flatten(record.config)
        words = [record.id, record.command, record.state, record.group, record.reason, f"seed={record.seed}"]
        words += [f"{names[key]}={text(flat.get(key))}" for key in keys]
        line = f'<td><span class="state {record.state}">{record.state}</span></td>' + f"<td>{escape(record.command)}</td>" * many
        line += f'<td><code title="{escape(" ".join(record.overrides))}">{escape(record.id)}</code></td>'
        line += "".join(f'<td data-v="{cell(flat.get(key))}">{cell(flat.get(key))}</td>' for key in keys)
        line += f"<td>{cell(record.seed)}</td>"
        line += "".join(_number(record.metrics.get(name), figure(record.metrics.get(name), name)) for name in metrics)
        line += _number(record.seconds, figure(record.seconds, "seconds")) + f'<td class="reason">{escape(record.reason)}</td>'
        body.append(f'<tr data-state="{record.state}" data-words="{escape(" ".join(words).lower())}">{line}</tr>')
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


def _table(head: Sequence[str], body: Sequence[str]) -> str:
    cells = "".join(f"<th><button>{escape(name)}</button></th>" if name else "<th></th>" for name in head)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _number(value: float | None, told: str) -> str:
    return f'<td class="num" data-v="{"" if value is None else repr(value)}">{told}</td>'


def _card(heading: str, number: str, note: str, kind: str) -> str:
    return f'<div class="card {kind}"><h3>{heading}</h3><p class="number">{number}</p><p>{note}</p></div>'


def _spread(mean) -> str:
    return figure(mean.mean) + (f' <small>± {figure(mean.sd)}</small>' if mean.sd is not None else "")


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _file(name: str) -> str:
    return (files("kdlab.report") / "asset" / name).read_text(encoding="utf-8")
