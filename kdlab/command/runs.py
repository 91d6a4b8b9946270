"""`kdlab runs`: the table of runs, to the terminal, csv or parquet."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from kdlab.artifact.prune import prune
from kdlab.config.direction import higher_is_better
from kdlab.direction import gathered
from kdlab.error import UserError
from kdlab.report.pick import select
from kdlab.report.read import Record, records
from kdlab.report.state import absent, counts
from kdlab.report.table import ordered, rows, to_csv, to_parquet, to_terminal

FORMATS = ("table", "wide", "csv", "parquet")
ACTIONS = ("list", "prune")


def main(cfg: DictConfig) -> None:
    """Print or write the table. Errors: UserError where there are no runs, or the options do not fit together."""
    options = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(options, dict)
    run(**{str(key): value for key, value in options.items()})


def run(
    outputs: str,
    select: str | Sequence[str] | None,
    sort: str | None,
    columns: Sequence[str] | None,
    format: str,
    file: str | None,
    live: bool,
    every: float,
    action: str,
    older_days: float | None,
    remove: bool,
) -> None:
    """The same with plain arguments; they are explained in conf/runs.yaml."""
    if action not in ACTIONS:
        raise UserError(f"action={action} is not known: choose one of {', '.join(ACTIONS)}.")
    if action == "prune":
        prune(outputs, chosen(outputs, select), select is not None, older_days, remove)
        return
    if remove or older_days is not None:
        raise UserError("remove and older_days belong to action=prune: add it, or leave them out.")
    if live:
        if file is not None or format != "table":
            raise UserError("live=true shows a table in the terminal: leave out file and format.")
        if not every > 0:
            raise UserError(f"every={every}: give more than 0 seconds.")
        watch(outputs, select, every)
        return
    if format not in FORMATS:
        raise UserError(f"format={format} is not known: choose one of {', '.join(FORMATS)}.")
    if format == "parquet" and file is None:
        raise UserError("format=parquet needs a file to write: add file=runs.parquet.")
    if isinstance(columns, str):
        columns = [columns]
    found = ordered(chosen(outputs, select), sort)
    if sort is not None and "/" in sort and higher_is_better(sort, gathered(record.done for record in found)) is None:
        print(
            f"sort={sort}: no metric declares whether more of it is better, so the largest come first", file=sys.stderr
        )
    names, lines = rows(found, columns, every=True) if format in ("csv", "parquet") else ([], [])
    if format == "parquet":
        to_parquet(names, lines, writable(str(file)))
    elif format == "csv":
        if file is None:
            sys.stdout.write(to_csv(names, lines))
        else:
            writable(file).write_text(to_csv(names, lines), encoding="utf-8")
    else:
        title = ", ".join(f"{count} {state}" for state, count in counts(found).items())
        missing = absent(found)
        title += f", {len(missing)} missing from their sweep" if missing else ""
        if file is None:
            wide = Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 200)
            to_terminal(found, wide, title, columns, fit=format == "table")
        else:
            with writable(file).open("w", encoding="utf-8") as stream:
                to_terminal(found, Console(file=stream, width=200), title, columns, fit=format == "table")
    if file is not None:
        print(f"{len(found)} runs in {file}")


def watch(outputs: str, names: str | Sequence[str] | None, every: float) -> None:
    """Show how the runs go until all have ended, or Ctrl-C; once where there is no terminal."""
    from rich.live import Live

    from kdlab.report.live import OPEN, Sight
    from kdlab.report.screen import screen

    sight = Sight(Path(outputs), names)
    rows = sight.look()
    if not rows:
        chosen(outputs, names)  # which says what there is instead
        raise UserError(f"Nothing waits or runs in {Path(outputs).absolute()}.")
    console = Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 200)
    if not console.is_terminal:
        console.print(screen(rows))
        return
    shown = Live(screen(rows, console.height), console=console, auto_refresh=False, transient=True)
    with suppress(KeyboardInterrupt), shown:
        while any(row.state in OPEN for row in rows):
            time.sleep(every)
            rows = sight.look()
            shown.update(screen(rows, console.height), refresh=True)
    console.print(screen(rows))


def chosen(outputs: str, names: str | Sequence[str] | None) -> list[Record]:
    """The runs under `outputs` that `names` mean. Errors: UserError where there is none, saying where it looked."""
    place = Path(outputs).absolute()
    if not place.is_dir():
        raise UserError(f"There is no folder {place}: name the one that holds <command>/<id>/ with outputs=FOLDER.")
    every = records(place)
    if not every:
        raise UserError(
            f"No run in {place}: a run is a folder <command>/<id>/ there; name another place with outputs=FOLDER."
        )
    found = select(every, names)
    if not found:
        groups = sorted({record.group for record in every if record.group})
        raise UserError(
            f"select={names} fits none of the {len(every)} runs in {place}: give an id, a glob such as "
            f"'*{every[0].id[-9:]}', or a sweep{' (' + ', '.join(groups[:5]) + ')' if groups else ''}."
        )
    return found


def writable(file: str) -> Path:
    """The path to write to, its folder made. Errors: UserError where that cannot be."""
    path = Path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise UserError(f"file={file} is a folder: name a file in it.")
    except OSError as error:
        raise UserError(f"file={file} cannot be written ({error.strerror}): name another file.") from None
    return path
