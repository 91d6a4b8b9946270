"""The table of what every objective gave with one budget, from a file of `kdlab runs`, so that no number is typed."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from kdlab.loss.catalogue import between, entries
from kdlab.report.statistic import average, student_quantile

START, END = "<!-- measured: written by `make docs` -->", "<!-- /measured -->"
ORDER = ("labels", "logit", "feature", "relation")
KEYS = ("choice.loss", "datamodule.unlabelled", "seed")  # the columns before quality and agreement


def table(runs: str, conf: Path) -> str:
    """A row a recipe, by family and name, never by score.

    Args:
        runs: ``kdlab runs format=csv`` with :data:`KEYS` as columns, the quality, and the agreement with the teacher.
        conf: the folder of the groups, which has the family of a recipe's terms.

    Raises:
        ValueError: two runs of one recipe with the same seed, or a recipe that is not there.
    """
    found: dict[tuple[str, str], dict[str, tuple[float, ...]]] = defaultdict(dict)
    for row in csv.DictReader(io.StringIO(runs)):
        name = (row["choice.loss"], row["datamodule.unlabelled"])
        if row["seed"] in found[name]:
            raise ValueError(f"{name} was run twice with seed {row['seed']}")
        found[name][row["seed"]] = tuple(float(row[key]) if row[key] else math.nan for key in list(row)[len(KEYS) :])
    known = families(conf)
    lines = ["| recipe | seeds | test accuracy | 95% interval | agrees with the teacher |", "|---|---|---|---|---|"]
    family = ""
    for name in sorted(found, key=lambda name: (ORDER.index(known[name[0]]), *name)):
        if known[name[0]] != family:
            family = known[name[0]]
            lines.append(f"| **{family}** | | | | |")
        lines.append(_line(name, list(found[name].values())))
    return "\n".join(lines)


def families(conf: Path) -> dict[str, str]:
    """The family of each recipe: that of its terms, where one is no logit term that one's; ``labels`` without terms."""
    of = {path.stem: "labels" for path in (conf / "loss").glob("*.yaml")}
    for entry in entries(conf):
        for recipe in entry.recipes:
            of[recipe] = entry.family if of[recipe] in ("labels", "logit") else of[recipe]
    return of


def written(document: str, runs: str, conf: Path) -> str:
    """``document`` with the table between its two markers.

    Raises:
        ValueError: it lacks a marker.
    """
    return between(document, START, table(runs, conf), END)


def _line(name: tuple[str, str], values: list[tuple[float, ...]]) -> str:
    recipe = f"`{name[0]}`" + (" `datamodule.unlabelled=drop`" if name[1] == "drop" else "")
    accuracy = average([value[0] for value in values])
    half = 0.0
    if accuracy.sd is not None:
        half = student_quantile(0.975, accuracy.n - 1) * accuracy.sd / math.sqrt(accuracy.n)
    agreement = [value[1] for value in values if not math.isnan(value[1])]
    cells = (
        recipe, str(accuracy.n), f"{100 * accuracy.mean:.1f}%",
        f"{100 * (accuracy.mean - half):.1f} to {100 * (accuracy.mean + half):.1f}" if half else "–",
        f"{100 * average(agreement).mean:.1f}%" if agreement else "–",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def every(runs: str) -> Iterator[tuple[str, str]]:
    """(recipe, seed) of each run in the file."""
    for row in csv.DictReader(io.StringIO(runs)):
        yield row["choice.loss"], row["seed"]
