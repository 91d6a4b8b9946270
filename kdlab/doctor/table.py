"""What the doctor found, on a terminal; every name from outside is shown as it is, never as markup."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdlab.text import printable

if TYPE_CHECKING:  # they import torch
    from kdlab.doctor.cost import Cost
    from kdlab.doctor.model_summary import ModelSummary
    from kdlab.doctor.swept_key import SweptKey


EVERY = 10.0  # seconds between two lines of progress where standard error is no terminal


class Page:
    """Prints section after section, as the probes end."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(width=None if Console().is_terminal else 120, highlight=False)
        self.last = time.monotonic()

    def progress(self, text: str) -> None:
        """One line on a terminal, in the place of the one before; "" leaves none. Elsewhere a line now and then."""
        if sys.stderr.isatty():
            print(f"\r\033[K{printable(text)[:100]}", end="", file=sys.stderr, flush=True)
        elif text and time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            print(f"kdlab doctor: {printable(text)[:200]}", file=sys.stderr, flush=True)

    def jobs(self, count: int, finished: int, begun: int, looked: int) -> None:
        """How many jobs there are, and the states of the runs that were looked at."""
        words = f"{looked - finished - begun:,} new, {begun:,} to resume, {finished:,} finished"
        words = words if count == looked else f"the {looked:,} different runs that were looked at: {words}"
        self._line("1 job:" if count == 1 else f"{count:,} jobs:", words)

    def data(self, described: Mapping[str, object], labels: Sequence[str], processor: str) -> None:
        splits = ", ".join(f"{described[name]} {name}" for name in ("train", "val", "test") if name in described)
        names = ", ".join(labels[:8]) + (" …" if len(labels) > 8 else "")
        self._line("data", f"{splits}; {described.get('labelled')} training rows have a label; labels: {names}")
        if "vocabulary" in described:
            self._line("tokens", f"{described['vocabulary']} in the vocabulary of {processor.split('?')[0]}")
        elif "size" in described:
            channels = "gray" if described.get("channels") == 1 else "RGB"
            self._line("images", f"{described['size']} x {described['size']} pixels, {channels}")

    def teacher(self, text: str) -> None:
        self._line("teacher", text)

    def shapes(self, shapes: Mapping[str, ModelSummary]) -> None:
        """The blocks of all models side by side, from the bottom, and the taps that can be read."""
        table = _table("models", *(f"{role}: {shape.name}" for role, shape in shapes.items()))
        for place in range(max(len(shape.blocks) for shape in shapes.values())):
            table.add_row("", *(Text(_block(shape, place)) for shape in shapes.values()))
        table.add_row("sum", *(f"{shape.parameters:,}" for shape in shapes.values()))
        table.add_row("taps", *(Text(_short(shape.taps)) for shape in shapes.values()))
        table.add_row("word embeddings", *(f"{shape.vocabulary:,}" for shape in shapes.values()))
        self.console.print(table)

    def trainable(self, policies: Mapping[str, tuple[int, int]]) -> None:
        table = _table("freezing policy", "learns at the start", "learns at the end")
        for name, (start, end) in policies.items():
            table.add_row(Text(name), f"{start:,}", f"{end:,}")
        self.console.print(table)

    def adapters(self, names: Sequence[str]) -> None:
        self._line("adapters", ", ".join(names) or "none")

    def keys(self, keys: Sequence[SweptKey]) -> None:
        if not keys:
            return
        table = _table("swept key", "values", "what it changes", numbers=False)
        for key in keys:
            effect = ", ".join(key.changes) or ("nothing" if key.tried else "not tried: it could not be run")
            values = [word.partition("=")[2] for word in key.words]
            table.add_row(Text(key.key), Text(_short(values)), Text(effect, style="bold red" if key.dead else ""))
        self.console.print(table)
        for key in keys:
            if key.silent and not key.dead:
                self.note(f"{key.key} does nothing under {'; '.join(key.silent[:4])}")
            for words in key.equal:
                self.note(f"{' and '.join(words)} are the same")

    def cost(
        self, cost: Cost, once: Mapping[str, float], each: Mapping[str, float], steps: int, step: float,
        threads: int, left: int, store: int,
    ) -> None:  # fmt: skip
        """What the runs take.

        Args:
            once: seconds of what is done once for all runs, by name.
            each: seconds of what each run does, by name.
            steps: of a run.
            step: seconds of an optimizer step.
            threads: of a run.
            left: how many runs are not finished.
            store: bytes of the teacher's answers.
        """
        shown = ", ".join(f"{name} {_clock(seconds)}" for name, seconds in (dict(once) | dict(each)).items())
        shown += f" ({steps:,} steps of {step:.2g} s)"
        first, run = sum(once.values()), sum(each.values())
        self._line(
            "time",
            f"about {_clock(first + run)} a run on this machine's CPU with {threads} of its threads free ({shown}); "
            f"{_clock(first + run * left)} for the {left:,} still to run, one after the other",
        )
        if load := busy():
            self.note(load)
        parts = ", ".join(f"{name} {size(count)}" for name, count in cost.memory.items())
        self._line("memory", f"about {size(cost.bytes)} while training ({parts})")
        if store:
            self._line("store", f"{size(store)} for the teacher's answers, once for all runs")

    def note(self, text: str) -> None:
        self._line("note", text)

    def problems(self, texts: Sequence[str]) -> None:
        for one in texts:
            self.console.print(Text("wrong", style="bold red"), Text(printable(one)))
        if not texts:
            self.console.print(Text("No problems found.", style="bold"))

    def _line(self, name: str, text: str) -> None:
        self.console.print(Text(f"{name:<9}", style="bold"), Text(printable(text)))


def busy() -> str:
    """A sentence where the machine was busy in the last minute, since estimates are too short then; else "".

    Two torch threads beside another process on two cores take several times as long as alone.
    """
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    if load < cores / 2:
        return ""
    return (
        f"this machine was busy in the last minute (load {load:.1f} on {cores} cores): the time is that of an idle "
        "one, and runs beside other work may take several times as long"
    )


def free(folder: Path) -> int:
    """Bytes that are free where a folder lies, or will lie."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(there).free


def _table(*columns: str, numbers: bool = True) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if number and numbers else "left")
    return table


def _block(shape: ModelSummary, place: int) -> str:
    return f"{shape.blocks[place][0]} {shape.blocks[place][1]:>12,}" if place < len(shape.blocks) else ""


def _short(words: Sequence[str], most: int = 8) -> str:
    return ", ".join(words if len(words) <= most else [*words[: most - 2], "…", words[-1]])


def size(count: int) -> str:
    amount, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.3g} {unit}"


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
