"""`kdlab runs action=prune`: remove runs, after saying what that frees and whom they taught."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from kdlab.config.identity import shown
from kdlab.error import UserError
from kdlab.file import lock, read_json
from kdlab.report.read import Record, records
from kdlab.report.table import COLOURS

LOOKS: dict[str, JustifyMethod] = {  # the columns of the table, and the alignment of their values
    "run": "left", "state": "left", "size": "right", "unwritten for": "right", "": "left",
}  # fmt: skip
WITHOUT_RESULT = ("failed", "interrupted")  # what is removed where nothing is chosen


def prune(outputs: str, found: Sequence[Record], named: bool, older_days: float | None, sure: bool) -> None:
    """Show, or remove, the runs that no other needs. A run that is written at the moment is never one of them.

    Args:
        found: the runs that may go.
        named: whether the user named them; else only those without a result go, or all that are old enough, and the
            teachers of runs that stay are kept.
        older_days: only runs that nothing was written in for this number of days.
        sure: remove them; else only print the space that they take.
    """
    if older_days is not None and older_days < 0:
        raise UserError(f"older_days={older_days}: give a number of days, 0 or more.")
    fitting = [one for one in found if _fits(one, named, older_days)]
    every = records(Path(outputs).absolute())
    taught = pupils(every, fitting)
    while not named and taught:  # what stays may have had a teacher itself
        for one in [one for one in fitting if one.id in taught]:
            print(f"kept: {one.id}, which taught {_few(taught[one.id])}; select={shown(one.id)} removes it")
        fitting = [one for one in fitting if one.id not in taught]
        taught = pupils(every, fitting)
    if not fitting:
        print("nothing to remove" + ("" if named else ": every run here has a result, runs now or teaches another"))
        return
    sizes = {one.folder: size(one.folder) for one in fitting}
    show(fitting, sizes, taught)
    if not sure:
        print(f"removing {_count(fitting)} would free {_megabytes(sum(sizes.values()))}: add remove=true")
        return
    gone = [one for one in fitting if remove(one.folder)]
    busy = "" if len(gone) == len(fitting) else f"; {len(fitting) - len(gone)} are in use or links, and stay"
    print(f"removed {_count(gone)}, {_megabytes(sum(sizes[one.folder] for one in gone))}{busy}")


def _fits(one: Record, named: bool, older_days: float | None) -> bool:
    if one.state == "running" or (older_days is not None and days_unwritten(one.folder) < older_days):
        return False
    return named or older_days is not None or one.state in WITHOUT_RESULT


def pupils(every: Sequence[Record], going: Sequence[Record]) -> dict[str, list[str]]:
    """The ids of the runs that stay and were taught by, or began as, one that goes; by its id."""
    away = {one.folder for one in going}
    staying = [one for one in every if one.folder not in away]
    return {one.id: found for one in going if (found := taught_by(staying, one))}


def taught_by(staying: Sequence[Record], one: Record) -> list[str]:
    """The ids of the runs that name another as a teacher or as their start."""
    return [other.id for other in staying if one.folder.name in _named_in(other.folder) and other.folder != one.folder]


def _named_in(folder: Path) -> set[str]:
    found: set[str] = set()
    for name in ("teacher.json", "start.json"):
        try:
            recorded = read_json(folder / name, "", dict)
        except UserError:
            continue
        places = recorded.get("places")
        named = [recorded.get("folder"), *(places.values() if isinstance(places, dict) else ())]
        found |= {Path(place).name for place in named if isinstance(place, str)}
    return found


def days_unwritten(folder: Path) -> float:
    """Days since anything in a folder was written."""
    times = [path.stat().st_mtime for path in folder.iterdir() if path.name != ".lock"]
    return (time.time() - max(times, default=folder.stat().st_mtime)) / 86400


def size(folder: Path) -> int:
    """Bytes of the files below a folder; links are not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def remove(folder: Path) -> bool:
    """Remove a run's folder as a whole, or not at all: False where another process holds it, or it is a link."""
    if folder.is_symlink():
        return False
    with lock(folder / ".lock", f"run {folder.name}", wait=False) as locked:
        if not locked:
            return False
        gone = folder.with_name(f".{folder.name}.removed")
        folder.rename(gone)
    shutil.rmtree(gone)
    return True


def show(fitting: Sequence[Record], sizes: dict[Path, int], taught: dict[str, list[str]]) -> None:
    """The runs that go, each with its size and whom it taught."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for title, justify in LOOKS.items():
        table.add_column(title, justify=justify, no_wrap=True)
    for one in fitting:
        note = f"taught {_few(taught[one.id])}" if one.id in taught else ""
        state = Text(one.state, style=COLOURS.get(one.state, ""))
        age = f"{days_unwritten(one.folder):.0f} days"
        table.add_row(Text(one.id), state, _megabytes(sizes[one.folder]), age, Text(note, style="red"))
    console = Console()
    whole = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    console.width = max(console.width, whole)
    console.print(table)


def _few(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"{len(ids)} run{'s' * (len(ids) != 1)} that stay{'s' * (len(ids) == 1)} ({', '.join(ids[:3])}{more})"


def _count(several: Sequence[Record]) -> str:
    return f"{len(several)} run{'s' * (len(several) != 1)}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
