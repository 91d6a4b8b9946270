"""How far an exported model computes the same as the original, how fast, and how large both are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.format.base import Run
from kdlab.meter import Meter
from kdlab.metric.cost import REPEATS, timed
from kdlab.report.figure import figure
from kdlab.task.base import Task

ROWS = (1, 2, 7)  # of the batches that are tried in each length
BATCH = 32  # rows of the batch that is timed


@dataclass(frozen=True)
class Model:
    """The cost and quality of one of the two models.

    Attributes:
        size_mb: its weight files, in 10^6 bytes.
        row_ms, batch_ms: processor time of one row and of a batch, on one thread.
        accuracy: on the labelled rows; None where there is none, or the task has another measure.
    """

    size_mb: float
    row_ms: float
    batch_ms: float
    accuracy: float | None = None


@dataclass(frozen=True)
class Parity:
    """A comparison of an exported model with the original.

    Attributes:
        rows: that were compared.
        largest_difference: between two logits of a row.
        equal_decisions: share of equal decisions, in [0, 1].
        shapes: by ``rows x length``, the largest difference of a batch of that shape.
        batch: rows of the batch that was timed.
        original, exported: their cost and quality.
    """

    rows: int
    largest_difference: float
    equal_decisions: float
    shapes: dict[str, float]
    batch: int
    original: Model
    exported: Model
    machine: dict[str, str] = field(default_factory=dict)

    @property
    def plain(self) -> dict[str, object]:
        return asdict(self)

    def show(self, console: Console, title: str) -> None:
        """Print it."""
        table = Table(title=title)
        for column in ("", "MB", "ms a row", f"ms a batch of {self.batch}", "right"):
            table.add_column(column, justify="right" if column else "left")
        for name, one in (("original", self.original), ("exported", self.exported)):
            cells = [f"{value:.3g}" for value in (one.size_mb, one.row_ms, one.batch_ms)]
            table.add_row(name, *cells, figure(one.accuracy))
        console.print(table)
        console.print(
            f"{self.rows:,} rows: equal decisions {100 * self.equal_decisions:.2f} %, largest difference of logits "
            f"{self.largest_difference:.2g}; batches of {', '.join(self.shapes)}: at most "
            f"{max(self.shapes.values()):.2g}"
        )


def difference(original: Tensor, exported: Tensor) -> float:
    """The largest difference of two tensors of one shape; infinite where a number is missing on one side.

    Example:
        >>> difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]))
        0.5
    """
    return float(torch.nan_to_num((original - exported).abs(), nan=torch.inf).max()) if original.numel() else 0.0


def equal_share(original: Tensor, exported: Tensor) -> float:
    """The share of rows with equal decisions: ``[N]`` classes, or ``[N, C]`` labels, which must all be equal.

    Example:
        >>> equal_share(torch.tensor([1, 0, 1, 1]), torch.tensor([1, 0, 0, 1]))
        0.75
    """
    same = original == exported
    return float((same if same.ndim == 1 else same.all(-1)).double().mean())


def example_rows(data: Data, split: str) -> list[tuple[str, Batch]]:
    """Batches of 1, 2 and 7 of the shortest and of the longest rows of a split, with their shapes in words; the last is
    one of short and long rows."""
    encoded, rows = data.encoded_rows(), data.splits[split]
    order = rows[encoded.rows.lengths[rows].argsort(kind="stable")]
    found = {}
    for part in (order, order[::-1]):
        for count in ROWS:
            index = part[[number % len(part) for number in range(count)]]
            batch = encoded.batch(index)
            found[f"{count} x {batch.length}" if batch.length else f"{count} rows"] = batch
    mixed = encoded.batch(order[[0, len(order) // 2, -1]])
    return [*found.items(), ("mixed", mixed)]


def shapes(original: Run, exported: Run, tried: Sequence[tuple[str, Batch]]) -> dict[str, float]:
    """The largest difference for each shape of a batch.

    Raises:
        UserError: the exported model does not run with one of them.
    """
    found = {}
    for name, batch in tried:
        try:
            values = exported(batch.inputs)
        except Exception as problem:  # of the engine's own kinds
            reason = " ".join(str(problem).split())[:200]
            raise UserError(
                f"the exported model does not run with a batch of {name} ({reason}): choose another format"
            ) from problem
        found[name] = difference(original(batch.inputs), values)
    return found


def compare(
    task: Task, original: Run, exported: Run, batches: Sequence[Batch]
) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
    """Both models' logits ``[N, C]`` of all predictions of some batches, and the labels ``[N]`` of tasks that have
    them."""
    both: tuple[list[Tensor], list[Tensor]] = ([], [])
    labels = []
    with Meter("comparing", sum(map(len, batches))) as meter:
        for batch in batches:
            for run, found in zip((original, exported), both, strict=True):
                output = task.frame(run(batch.inputs), batch)
                found.append(output.logits[output.mask])
            if output.label is not None:
                labels.append(output.label[output.mask])
            meter.more(len(batch))
    return (torch.cat(both[0]), torch.cat(both[1])), torch.cat(labels) if labels else None


def accuracy(task: Task, logits: Tensor, labels: Tensor | None) -> float | None:
    """The share of right decisions among the labelled ones; None where there is none."""
    chosen = task.outcome.chosen(logits)
    if labels is None or labels.shape != chosen.shape:
        return None
    known = labels >= 0 if labels.ndim == 1 else (labels >= 0).all(-1)
    return equal_share(chosen[known].long(), labels[known].long()) if bool(known.any()) else None


def parity(
    task: Task,
    data: Data,
    split: str,
    batches: Sequence[Batch],
    runs: tuple[Run, Run],
    sizes: tuple[int, int],
    machine: Mapping[str, str],
    repeats: int = REPEATS,
) -> Parity:
    """Compare two models on all rows of some batches.

    Args:
        runs: the original and the exported model.
        sizes: bytes of their weights.
        repeats: how often each is timed.
    """
    tried = shapes(*runs, example_rows(data, split)[:-1])
    (first, second), labels = compare(task, *runs, batches)
    row, batch = data.processor.example(BATCH), batches[len(batches) // 2].rows(slice(0, BATCH))

    def model(run: Run, size: int, logits: Tensor) -> Model:
        each, all_ = (_milliseconds(run, inputs, repeats) for inputs in (row, batch.inputs))
        return Model(size / 1e6, each, all_, accuracy(task, logits, labels))

    share = equal_share(task.outcome.chosen(first), task.outcome.chosen(second))
    before, after = model(runs[0], sizes[0], first), model(runs[1], sizes[1], second)
    return Parity(len(first), difference(first, second), share, tried, len(batch), before, after, dict(machine))


def _milliseconds(run: Run, inputs: Mapping[str, Tensor], repeats: int) -> float:
    call: Callable[[], Tensor] = lambda: run(inputs)  # noqa: E731
    return timed(call, repeats=repeats)["latency_ms"]
