"""The tables that `kdlab evaluate` prints: one model a row, and the classes of the one that is evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdlab.report.figure import LARGE, figure
from kdlab.text import one_line

LONG = 30  # classes that are printed
SHOWN = 300  # characters of a generated text that are printed
WIDE = 12  # classes whose confusions are printed as columns


class Samples:
    """Texts that several models wrote for the same rows, side by side.

    Attributes:
        rows: by id, the prompt, the reference and the text of each model.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, str]] = {}

    def add(self, model: str, found: Sequence[Mapping[str, Any]]) -> None:
        """Add what a model wrote.

        Args:
            found: a mapping for each row: ``row``, ``prompt``, ``reference`` and ``student``, the model's text.
        """
        for one in found:
            texts = {name: str(one[name]) for name in ("prompt", "reference")}
            self.rows.setdefault(str(one["row"]), texts)[model] = str(one["student"])


def show_texts(console: Console, scores: Mapping[str, Mapping[str, float]], samples: Mapping[str, Any]) -> None:
    """Print the scores of generated texts by model, and some of the texts.

    Args:
        samples: see :class:`Samples`.
    """
    names = list(dict.fromkeys(name for found in scores.values() for name in found))
    if not names:
        return
    table = Table(title="generated texts")
    for key in ("", *(name.rpartition("/")[2] for name in names)):
        table.add_column(Text(key.replace("_", " ")), justify="right" if key else "left")
    for model, found in scores.items():
        table.add_row(model, *[_number(found.get(name)) for name in names])
    console.print(table)
    wide = max((len(name) for texts in samples.values() for name in texts), default=0)
    for row, texts in samples.items():
        console.print(Text(f"row {row}"))
        for name, text in texts.items():
            line = Text(f"  {name:<{wide}}  {one_line(text, SHOWN)}")
            line.no_wrap, line.overflow = False, "fold"
            console.print(line)


def show(
    console: Console,
    title: str,
    results: dict[str, dict[str, Any]],
    labels: list[str],
    columns: Sequence[str],
    more: Sequence[str] = (),
    from_teacher: bool = False,
    asked: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Print what was measured.

    Args:
        results: by model, the numbers by name.
        labels: names of the classes.
        columns: the names that have columns.
        more: those of a table of their own.
        from_teacher: whether the student begins with layers of the teacher.
        asked: by what was asked for, the names that are rows of one table of all models.
    """
    table = Table(title=Text(one_line(title)))
    table.add_column("", no_wrap=True)
    for key in columns:
        table.add_column(key.replace("_", " "), justify="right")
    for name, result in results.items():
        table.add_row(name, *[_short(result.get(key)) for key in columns])
    console.print(table)
    if "untrained" in results:
        words = "untrained: the same model before its training, with the weights that it begins with"
        words += "; these come from the trained teacher, whose layers it is made of" if from_teacher else ""
        console.print(Text(words))
    if more := [key for key in more if any(key in result for result in results.values())]:
        table = Table(title="the run's own metrics")
        for key in ("", *more):
            table.add_column(Text(key), justify="right" if key else "left")
        for name, result in results.items():
            table.add_row(name, *[_number(result.get(key)) for key in more])
        console.print(table)
    if any(name in result for names in asked.values() for name in names for result in results.values()):
        console.print(_asked(results, asked))
    own = results.get("distilled") or results["trained"]
    if "class" in own:
        _print_classes(console, own, labels)


def _asked(results: Mapping[str, Mapping[str, Any]], asked: Mapping[str, Sequence[str]]) -> Table:
    """One row a figure and one column a model; figures that no model has are left out."""
    table = Table(title="what was asked for")
    for key in ("", *results):
        table.add_column(Text(key), justify="right" if key else "left", no_wrap=not key)
    for names in asked.values():
        for name in names:
            if any(name in result for result in results.values()):
                table.add_row(Text(name), *[_number(result.get(name)) for result in results.values()])
        table.add_section()
    return table


def _print_classes(console: Console, own: dict[str, Any], labels: list[str]) -> None:
    """The scores of each class, and what its rows are taken for where that is not too wide; of many, the worst."""
    order, title = list(range(len(labels))), "per class"
    if len(labels) > LONG:
        found = [own["class"][label] for label in labels]
        order = sorted(order, key=lambda at: (not found[at]["support"], found[at]["f1"]))[:LONG]
        title = f"the {LONG} of {len(labels)} classes with the lowest F1"
    per_class = Table(title=title)
    several = "confusion" in own and isinstance(own["confusion"][0][0], list)
    names = ["no", "yes"] if several else labels if len(labels) <= WIDE else []
    for title in ("label", "precision", "recall", "F1", "support", *[f"predicted {label}" for label in names]):
        per_class.add_column(Text(one_line(title)), justify="left" if title == "label" else "right")
    for index in order:
        row, counts = own["class"][labels[index]], own["confusion"][index] if names else []
        cells = [_number(row[key]) for key in ("precision", "recall", "f1", "support")]
        counts = [sum(column) for column in zip(*counts, strict=True)] if several else counts
        per_class.add_row(Text(one_line(labels[index])), *cells, *[str(count) for count in counts])
    console.print(per_class)
    if len(labels) > WIDE and not several:
        for true, predicted, rows in own["mistakes"][:WIDE]:
            console.print(Text(one_line(f"{rows} of {true} were predicted as {predicted}")))


def _short(value: float | None) -> str:
    """A number; a large count with a unit, so that the table fits."""
    large = value is not None and value >= LARGE and float(value).is_integer()
    return figure(value) if large else _number(value)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return (
        f"{value:,.0f}"
        if value >= 1000 or float(value).is_integer()
        else f"{value:.3f}"
        if value < 10
        else f"{value:.1f}"
    )
