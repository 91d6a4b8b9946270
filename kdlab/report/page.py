"""One self-contained HTML page over a set of runs: no server, no network, no image but what it draws itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from importlib.resources import files

from kdlab.report.compare import Comparison, absent, compare, counts, problem_of
from kdlab.report.figure import figure, signed
from kdlab.report.grid import pairs, runs
from kdlab.report.payload import payload, script
from kdlab.report.read import Record
from kdlab.report.statistic import Mean

SCRIPTS = ("chart.js", "heat.js", "scatter.js", "curve.js", "table.js")
HEAT = "Mean over seeds; ± standard deviation, n seeds. ★ the best mean. * a seed of it did not finish."
LISTED = 100  # runs without a result that the page names above its table
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
        shell("heat", "Where it works", HEAT),
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
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{style}</style></head><body><main>'
        + "\n".join(part for part in parts if part)
        + "<footer>Made by <code>kdlab report</code> from the run directories alone.</footer></main>"
        '<div id="tip" role="status" hidden></div>'
        f'<script type="application/json" id="data">{script(payload(comparison, metric))}</script>'
        f"<script>{code}</script></body></html>\n"
    )


def headline(records: Sequence[Record], comparison: Comparison, title: str, place: str) -> str:
    """What was compared, and the cards."""
    states = ", ".join(f"<b>{count}</b> {state}" for state, count in counts(records).items())
    lost = len(absent(records))
    states += f", <b>{lost}</b> missing" if lost else ""
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    keys = ", ".join(f"<b>{escape(comparison.names[key])}</b>" for key in comparison.keys) or "nothing but seeds"
    seeds = _seeds(len({run.seed for run in comparison.subject if run.seed is not None}))
    what = f"Varied: {keys}; {len(comparison.rows)} settings with finished runs, {seeds}."
    return (
        f"<header><h1>{escape(title)}</h1><p>{states} runs in <code>{escape(place)}</code>. {what}</p>"
        f'<p class="muted">Compared by <code>{escape(comparison.metric)}</code>. Written {escape(when)}.</p></header>'
        f'<section class="cards" aria-label="Headline">{"".join(cards(comparison))}</section>'
    )


def cards(comparison: Comparison) -> list[str]:
    """The best of each data set and its gain, the baselines and the teachers, as many as fit a headline."""
    metric, found = comparison.metric, []
    for problem, (best, by) in list(comparison.best.items())[:4]:
        on = f" on {escape(problem)}" if len(comparison.best) > 1 else ""
        how = "its validation value" if by != metric else "this same value, so expect a little less"
        assert best.mean
        note = f"mean of {_seeds(best.mean.n)}; chosen by {how}"
        found.append(_card(f"Best setting{on}", _spread(best.mean), best.label or "one setting", note, "best"))
        if best.difference:
            low, high = best.difference.low, best.difference.high
            note = "one pair: no interval" if low is None or high is None else f"95% {signed(low)} to {signed(high)}"
            note += f"; keeps {best.kept:.1f}% of the teacher" if best.kept else ""
            tried = sum(not row.baseline and problem_of(row) == problem for row in comparison.rows)
            told = f"best of {tried} settings against no teacher, seed by seed"
            found.append(_card(f"Gain{on}", signed(best.difference.mean), told, note, "gain"))
    bases = [row for row in comparison.rows if row.baseline and row.mean]
    if not bases:
        found.append(
            _card("No teacher", "–", "no finished run without a teacher (loss=ce)", "gains cannot be told", "base")
        )
    for row in bases[:2]:
        assert row.mean
        found.append(_card("No teacher", _spread(row.mean), row.label, f"mean of {_seeds(row.mean.n)}", "base"))
    for name, metrics in list(comparison.teachers.items())[:3]:
        size = metrics.get("model/parameters")
        note = f"{figure(size, 'parameters')} parameters" if size else ""
        found.append(_card("Teacher", figure(metrics.get(metric), metric), name, note, "teacher"))
    return found


def trouble(records: Sequence[Record]) -> str:
    """Runs that are in no mean, each with its reason."""
    found = [
        (record.state, f"<code>{escape(record.id)}</code> {escape(record.reason)}")
        for record in records
        if record.state != "finished"
    ]
    found += [
        (
            "missing",
            f"job {gap['job']} of <code>{escape(gap['command'])}</code> sweep <code>{escape(gap['group'])}</code> "
            "left no directory: it never started, or its settings had run before",
        )
        for gap in absent(records)
    ]
    if not found:
        return ""
    lines = [f'<li><span class="state {state}">{state}</span> {told}</li>' for state, told in found[:LISTED]]
    if len(found) > LISTED:
        lines.append(f"<li>and {len(found) - LISTED} more; the table of all runs has each that left a directory</li>")
    few = " open" if len(found) <= 8 else ""
    summary = f"<summary>In no mean below: {len(found)}</summary>"
    return f'<details class="trouble"{few}>{summary}<ul>{"".join(lines)}</ul></details>'


def shell(name: str, heading: str, note: str) -> str:
    """A section that the page's own script fills."""
    return (
        f'<section id="{name}" class="panel"><h2>{heading}</h2><div class="controls"></div><div class="body">'
        "<noscript>This drawing needs JavaScript; the tables do not.</noscript></div>"
        f'<p class="muted note">{note}</p></section>'
    )


def _card(heading: str, number: str, told: str, note: str, kind: str) -> str:
    return (
        f'<div class="card {kind}"><h3>{heading}</h3><p class="number">{number}</p>'
        f'<p>{escape(told)}</p><p class="muted">{escape(note)}</p></div>'
    )


def _spread(mean: Mean) -> str:
    return figure(mean.mean) + (f" <small>± {figure(mean.sd)}</small>" if mean.sd is not None else "")


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _file(name: str) -> str:
    return (files("kdlab.report") / "asset" / name).read_text(encoding="utf-8")
