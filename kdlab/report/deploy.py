"""The best model of each problem: where it is, the commands that use or repeat it, and its results by class."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from kdlab.config.identity import shown
from kdlab.report.compare import Comparison, Row
from kdlab.report.figure import figure
from kdlab.report.read import Record

MOST = 30  # classes in the table


def use(comparison: Comparison, place: str) -> str:
    """A section for the best settings: one run of each, the seed with the best validation.

    Args:
        place: the folder of the runs, as the commands name it.
    """
    parts = []
    for problem, row in list(comparison.best.items())[:4]:
        one = best_run(row, comparison)
        on = f" on {escape(problem)}" if len(comparison.best) > 1 and problem else ""
        found = "".join(f"<dt>{name}</dt><dd><code>{escape(word)}</code></dd>" for name, word in steps(one, place))
        parts.append(f"<h3>Best setting{on}: {escape(row.label or 'one setting')}</h3><dl>{found}</dl>{table(one)}")
    if not parts:
        return ""
    return f'<section id="use" class="panel"><h2>Use the best model</h2>{"".join(parts)}</section>'


def best_run(row: Row, comparison: Comparison) -> Record:
    """The run of a setting with the best value of what settings are chosen by."""
    by = comparison.chosen_by.get(row.problem, comparison.metric)
    sign = -1 if comparison.less_is_better(by) else 1
    return max(row.runs, key=lambda run: sign * run.metrics.get(by, -sign * float("inf")))


def steps(one: Record, place: str) -> list[tuple[str, str]]:
    """The next steps with a run: a word for each, and the path or the command."""
    where = "" if place == "outputs" else f" outputs={shlex.quote(place)}"
    short = shown(one.id)
    return [
        ("model", f"{place}/{one.command}/{one.id}/model"),
        ("label new rows", f"kdlab predict run={short} path=new.csv file=predictions.csv{where}"),
        ("measure", f"kdlab evaluate run={short}{where}"),
        ("repeat", " ".join(["kdlab", one.command, *map(quoted, one.overrides)])),
    ]


def quoted(word: str) -> str:
    """A word as a shell takes it, in double quotes where it holds single ones, as Hydra's lists of words do.

    Example:
        >>> print(quoted("teacher.recipe=['model=mlp']"))
        "teacher.recipe=['model=mlp']"
    """
    return f'"{word}"' if "'" in word and not re.search(r'["$`!]|\\["$`\\\n]|\\$', word) else shlex.quote(word)


def table(one: Record) -> str:
    """Precision, recall and F1 of each class on the test rows; nothing where the run did not write them down."""
    rows = classes(one.test)
    if not rows:
        return ""
    head = "".join(
        f"<th><button>{name}</button></th>" for name in ("class", "test rows", "precision", "recall", "F1", "taken for")
    )
    body = "".join(
        f'<tr><td>{escape(row["label"])}</td><td class="num">{row["rows"]}</td>'
        + "".join(f'<td class="num">{figure(row[name])}</td>' for name in ("precision", "recall", "f1"))
        + f"<td>{escape(row['taken_for'])}</td></tr>"
        for row in rows[:MOST]
    )
    more = f'<p class="muted">and {len(rows) - MOST} more classes</p>' if len(rows) > MOST else ""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}'


def classes(test: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Results by class from test.json, the largest class first; empty where it has none.

    Args:
        test: ``labels`` and ``confusion``, counts ``[C][C]`` of (class, predicted class), or ``[C][2][2]``.

    Example:
        >>> classes({"labels": ["no", "yes"], "confusion": [[3, 1], [0, 2]]})[0]["precision"]
        1.0
    """
    labels, counts = test.get("labels"), test.get("confusion")
    if not isinstance(labels, list) or not isinstance(counts, list) or len(labels) != len(counts):
        return []
    try:
        several = all(len(one) == 2 and all(len(line) == 2 for line in one) for one in counts)
    except TypeError:  # numbers: one label a row
        several = False
    try:
        found = [_class(str(label), counts, place, several, labels) for place, label in enumerate(labels)]
    except (TypeError, LookupError, ValueError):
        return []
    return sorted(found, key=lambda row: -row["rows"])


def _class(label: str, counts: list, place: int, several: bool, labels: list) -> dict[str, Any]:
    if several:
        (_, false), (missed, right) = counts[place]
        others: list[int] = []
    else:
        if len(counts[place]) != len(counts):
            raise ValueError("not square")
        right = int(counts[place][place])
        false, missed = sum(int(line[place]) for line in counts) - right, sum(map(int, counts[place])) - right
        others = [0 if at == place else int(count) for at, count in enumerate(counts[place])]
    taken = f"{labels[others.index(max(others))]} ({max(others)})" if any(others) else ""
    precision = right / (right + false) if right + false else None
    recall = right / (right + missed) if right + missed else None
    f1 = 2 * right / (2 * right + false + missed) if right + false + missed else None
    return {
        "label": label, "rows": right + missed, "precision": precision, "recall": recall, "f1": f1, "taken_for": taken,
    }  # fmt: skip
