"""The run directory's own record, history.csv: always on, and the same after a kill and a resume."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from kdlab.error import UserError
from kdlab.file import put, sync

if TYPE_CHECKING:
    from kdlab.logger.base import RunInfo

FILE = "history.csv"
LEADING = ["step", "epoch"]


class History(Logger):
    """Writes ``<folder>/history.csv``: one row a logged step; columns step, epoch, then metrics as they first appear.

    A row is on disk as soon as it is logged; metrics of the same step join its row. Going on from a checkpoint, rows of
    steps that will be trained again are dropped first. ``step`` counts from 0: the row of step s is what optimizer
    step s + 1 brought.
    """

    def __init__(self, info: RunInfo) -> None:
        super().__init__()
        self.folder = info.folder
        self.path = info.folder / FILE
        self.columns = list(LEADING)
        self.row: dict[str, Any] = {}  # the last row, still open for metrics of its step
        self.start = 0  # where the last row begins in the file, in bytes
        self._begin(info.resumed_step)

    @property
    def name(self) -> str:
        return "history"

    @property
    def version(self) -> str:
        return self.folder.name

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = int(step or 0)
        values = {name: value for name, value in metrics.items() if name != "step"}
        same = self.row.get("step") == step
        old = self.row
        self.row = (old if same else {"step": step}) | values
        new = [name for name in values if name not in self.columns]
        if new:
            rows = self._read()
            if same:
                rows.pop()
            self.columns += new
            self._rewrite([*rows, self.row])
        elif same:
            self._write(self.start)
        else:
            self._write(self.path.stat().st_size)

    @rank_zero_only
    def _begin(self, resumed_step: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, Any]] = []
        if resumed_step and self.path.exists():
            rows = [row for row in self._read() if row.get("step", "").isdigit() and int(row["step"]) < resumed_step]
        self._rewrite(rows)
        self.row = dict(rows[-1]) if rows else {}
        if rows:
            self.row["step"] = int(self.row["step"])

    def _read(self) -> list[dict[str, str]]:
        """The rows on disk; a line cut off by a kill is no row."""
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                lines = [line for line in file if line.endswith("\n")]
            table = list(csv.reader(lines))
        except (UnicodeDecodeError, csv.Error) as problem:
            raise UserError(f"{self.path} is damaged ({problem}): add rerun=true to train the run again") from problem
        if not table:
            return []
        header = table[0]
        self.columns += [name for name in header if name not in self.columns]
        return [dict(zip(header, row, strict=True)) for row in table[1:] if len(row) == len(header)]

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        """Replace the file in one move, so that a reader and a kill meet the old one or the new one."""
        lines = [_line(self.columns), *(self._text(row) for row in rows)]
        self.start = sum(map(len, lines[:-1]))
        temporary = self.path.with_suffix(".csv.part")
        temporary.write_bytes(b"".join(lines))
        sync(temporary)
        put(temporary, self.path)

    def _write(self, start: int) -> None:
        line = self._text(self.row)
        with self.path.open("r+b", buffering=0) as file:
            file.seek(start)
            file.write(line)
            file.truncate()
        self.start = start

    def _text(self, row: dict[str, Any]) -> bytes:
        return _line([row.get(name, "") for name in self.columns])


def _line(cells: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
