"""The data of the page's charts: one JSON value, safe inside a script element."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kdlab.config.direction import higher_is_better
from kdlab.report.compare import Comparison, is_baseline
from kdlab.report.cost import Costs
from kdlab.report.read import Record
from kdlab.report.setting import is_number, setting, text

POINTS = 60_000  # of all curves together: about 1 MB of text
AXES = ("step", "epoch")


def payload(comparison: Comparison, metric: str) -> dict[str, Any]:
    """Runs, keys, teachers and curves as plain values; every float is finite."""
    runs = comparison.subject
    names = sorted({name for run in runs for name in run.metrics if not name.startswith("teacher/")})
    quality = [name for name in names if not name.startswith(("model/", "perf/"))]
    curves, thinned = _curves(runs)
    costs = Costs(runs)
    return {
        "metric": metric,
        "qualities": sorted(quality, key=lambda name: (name != metric, not name.startswith("test/"), name)),
        "costs": costs.axes(runs, names),
        "less": [name for name in [*names, "seconds"] if higher_is_better(name, comparison.directions) is False],
        "keys": [_key(key, comparison) for key in comparison.keys],
        "runs": [_run(run, comparison, costs) for run in runs],
        "teachers": [
            {"name": name, "problem": name.partition(" on ")[2], "metrics": metrics}
            for name, metrics in comparison.teachers.items()
        ],
        "curves": curves,
        "thinned": thinned,
    }


def script(value: Any) -> str:
    """JSON in ASCII that cannot close its script element or open a comment."""
    written = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _key(key: str, comparison: Comparison) -> dict[str, Any]:
    values = [dict(setting(run, [key]))[key] for run in comparison.subject]
    distinct = {text(value): value for value in values if value is not None}
    numeric = bool(distinct) and all(is_number(value) for value in distinct.values())
    order = sorted(distinct, key=(lambda name: distinct[name]) if numeric else None)
    return {
        "key": key,
        "name": comparison.names[key],
        "numeric": numeric,
        "values": [distinct[name] if numeric else name for name in order],
    }


def _run(run: Record, comparison: Comparison, costs: Costs) -> dict[str, Any]:
    values = {
        key: value if is_number(value) or value is None else text(value) for key, value in setting(run, comparison.keys)
    }
    loss = run.config.get("loss")
    taught = not (run.choice.get("loss") == "ce" or (isinstance(loss, dict) and not loss.get("terms")))
    metrics = {name: value for name, value in run.metrics.items() if not name.startswith("teacher/")}
    metrics |= costs.steady(run)
    return {
        "id": run.id,
        "state": run.state,
        "baseline": is_baseline(run),
        "map": taught or run.command != "distill",
        "seed": run.seed,
        "problem": comparison.problems[run.folder],
        "values": values,
        "metrics": metrics | ({} if run.seconds is None else {"seconds": run.seconds}),
    }


def _curves(runs: Sequence[Record]) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Points by metric and run, and the thinning: every how many-th logged point is kept (the last always)."""
    names = {name for run in runs for name in run.history if name not in AXES}
    total = sum(value is not None for run in runs for name, column in run.history.items() for value in column)
    stride = max(1, -(-total // POINTS))
    found: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(names, key=lambda name: (not name.startswith("val/"), name)):
        for index, run in enumerate(runs):
            points = _points(run, name)
            if points:
                kept = points[::stride] + ([points[-1]] if (len(points) - 1) % stride else [])
                found.setdefault(name, []).append({"run": index, "points": kept})
    return found, stride


def _points(run: Record, name: str) -> list[list[float | None]]:
    """``[step, epoch, value]`` where the value was logged."""
    column = run.history.get(name, [])
    steps, epochs = (run.history.get(axis, [None] * len(column)) for axis in AXES)
    return [
        [step, epoch, float(f"{value:.6g}")]
        for step, epoch, value in zip(steps, epochs, column, strict=False)
        if value is not None
    ]
