"""One self-contained HTML page over a set of runs: no server, no network, no image but what it draws itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from importlib.resources import files

from kdlab.config.direction import shares
from kdlab.report.compare import Comparison, compare, majorities, teacher_value
from kdlab.report.cost import Costs
from kdlab.report.deploy import use
from kdlab.report.figure import figure, signed
from kdlab.report.grid import NO_BASELINE, pairs, runs
from kdlab.report.payload import payload, script
from kdlab.report.read import Record
from kdlab.report.state import absent, counts
from kdlab.report.statistic import Mean

SCRIPTS = ("chart.js", "heat.js", "scatter.js", "curve.js", "table.js")
HEAT = "Mean over seeds; ± standard deviation, n seeds. ★ the best mean. * a seed of it did not finish."
NEAR = 0.01  # of accuracy: how near a student is to count as near its teacher
LISTED = 100  # runs without a result that the page names above its table
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(records: Sequence[Record], metric: str, title: str, place: str) -> str:
    """The whole page.

    Args:
        metric: the metric that settings are compared by.
        place: the folder of the runs, for the reader of the page.
    """
    comparison = compare(records, metric)
    parts = [
        headline(records, comparison, title, place),
        trouble(records),
        pairs(comparison),
        use(comparison, place),
        shell("heat", "Where it works", HEAT),
        shell("scatter", "Quality against cost", ""),
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
    """The runs that were compared, and the cards."""
    states = ", ".join(f"<b>{count}</b> {state}" for state, count in counts(records).items())
    lost = len(absent(records))
    states += f", <b>{lost}</b> missing" if lost else ""
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    keys = ", ".join(f"<b>{escape(comparison.names[key])}</b>" for key in comparison.keys) or "nothing but seeds"
    seeds = _seeds(len({run.seed for run in comparison.subject if run.seed is not None}))
    what = f"Varied: {keys}; {len(comparison.rows)} settings with finished runs, {seeds}."
    return (
        f"<header><h1>{escape(title)}</h1><p>{states} runs in <code>{escape(place)}</code>. {what}</p>"
        f'<p class="muted">Compared by <code>{escape(comparison.metric)}</code>. Written {escape(when)}.</p>'
        f"{common(comparison.subject)}</header>"
        f'<section class="cards" aria-label="Headline">{"".join(cards(comparison))}</section>'
    )


def common(subject: Sequence[Record]) -> str:
    """The overrides that all runs were started with, folded away."""
    if len(subject) < 2:
        return ""
    shared = [word for word in subject[0].overrides if all(word in run.overrides for run in subject)]
    if not shared:
        return ""
    words = " ".join(f"<code>{escape(word)}</code>" for word in shared)
    return f"<details><summary>The same in all runs: {len(shared)} settings</summary><p>{words}</p></details>"


def cards(comparison: Comparison) -> list[str]:
    """The best of each data set, its gain, what a majority, the baselines and the teachers reach: a headline."""
    metric, found = comparison.metric, []
    majority = majorities(comparison)
    several = len(comparison.best) > 1
    for problem, best in list(comparison.best.items())[:4]:
        on = f" on {escape(problem)}" if several else ""
        by = comparison.chosen_by[problem]
        how = f"Chosen by {by}." if by != metric else "Chosen on the test set, so the score is optimistic."
        assert best.mean
        note = f"{_seeds(best.mean.n).capitalize()}. {how}"
        if best.within:
            note += f" The test rows leave {best.within[0]:.3f} to {best.within[1]:.3f}."
            if best.within[0] <= majority.get(problem, -1.0):
                note += f" Not clearly above the majority's {figure(majority[problem])}."
        found.append(_card(f"Best setting{on}", _spread(best.mean), best.label or "one setting", note, "best"))
        if best.difference:
            low, high = best.difference.low, best.difference.high
            note = f"95% {signed(low)} to {signed(high)}" if low is not None and high is not None else "No interval"
            note += "" if best.certain else "; may be chance"
            note += f"; keeps {best.kept:.1f}% of the teacher" if best.kept else ""
            tried = sum(not row.baseline and row.problem == problem for row in comparison.rows)
            words = f"best of {tried} settings against no teacher, seed by seed"
            found.append(_card(f"Gain{on}", signed(best.difference.mean), words, note, "gain"))
        found += smallest(comparison, problem, on)
    for problem, value in list(majority.items())[:4]:
        on = f" on {escape(problem)}" if several else ""
        found.append(_card(f"Majority{on}", figure(value), "always giving the commonest class", "", "base"))
    bases = [row for row in comparison.rows if row.baseline and row.mean]
    if not bases:
        found.append(_card("No teacher", "–", NO_BASELINE, "", "base"))
    for row in bases[:2]:
        assert row.mean
        found.append(_card("No teacher", _spread(row.mean), row.label, f"Mean of {_seeds(row.mean.n)}.", "base"))
    counted = Costs(comparison.subject).counted or ""
    unit = counted.rsplit("/", 1)[-1]
    for name, metrics in list(comparison.teachers.items())[:3]:
        size = metrics.get(counted)
        note = f"{figure(size, counted)} {escape(unit)}" if size else ""
        found.append(_card("Teacher", figure(metrics.get(metric), metric), name, note, "teacher"))
    return found


def smallest(comparison: Comparison, problem: str, on: str) -> list[str]:
    """A card for the smallest student near its teacher, where students of several sizes were trained."""
    metric, rows, counted = comparison.metric, [], Costs(comparison.subject).counted or ""
    for row in comparison.rows:
        teacher, size = teacher_value(row.runs[0], comparison), row.average(counted)
        if row.problem == problem and row.mean and teacher is not None and size is not None:
            rows.append((size, row, teacher))
    share = metric.removeprefix("test/") in shares(run.done for row in comparison.rows for run in row.runs)
    if len({size for size, _, _ in rows}) < 2 or not share:
        return []
    near = [(size, row) for size, row, teacher in rows if row.mean and row.mean.mean >= teacher - NEAR]
    heading, points = f"Smallest near the teacher{on}", f"within {100 * NEAR:.0f} point of its teacher"
    if not near:
        return [_card(heading, "–", f"no student is {points}", f"{len(rows)} settings.", "base")]
    size, row = min(near, key=lambda pair: pair[0])
    note = f"{figure(row.mean.mean if row.mean else None)}: {points}, on the test rows."
    return [
        _card(
            heading,
            f"{figure(size, counted)} <small>{escape(counted.rsplit('/', 1)[-1])}</small>",
            row.label,
            note,
            "best",
        )
    ]


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
    lines = [f'<li><span class="state {state}">{state}</span> {words}</li>' for state, words in found[:LISTED]]
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


def _card(heading: str, number: str, words: str, note: str, kind: str) -> str:
    return (
        f'<div class="card {kind}"><h3>{heading}</h3><p class="number">{number}</p>'
        f'<p>{escape(words)}</p><p class="muted">{escape(note)}</p></div>'
    )


def _spread(mean: Mean) -> str:
    return figure(mean.mean) + (f" <small>± {figure(mean.sd)}</small>" if mean.sd is not None else "")


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _file(name: str) -> str:
    return (files("kdlab.report") / "asset" / name).read_text(encoding="utf-8")
