"""The runs beside one that has ended: its teacher, the same student without one or with one, a shorter training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kdlab import terminal
from kdlab.artifact.run import read_done
from kdlab.artifact.trained import teachers_of
from kdlab.config.direction import columns, higher_is_better, primaries
from kdlab.config.identity import identity
from kdlab.config.node import as_plain, made
from kdlab.config.stored import read_config
from kdlab.direction import gathered
from kdlab.error import UserError
from kdlab.metric.majority import NAME as MAJORITY
from kdlab.metric.majority import OF
from kdlab.report.read import Record, record

MAJORED = f"test/{MAJORITY}"
FAMILY = 3  # metrics of a prefix that are shown in a table of their own
MOST = 50  # runs of the same words that are looked into
MANY = 30  # runs of the same words, of which one may be the same but for its length
OTHERS = ("loss", "teacher", "module", "stages", "start", "reuse_frozen", "compile")  # what a student alone lacks


def compared(
    known: Mapping[str, float],
    own: str,
    beside: Mapping[str, Mapping[str, float]],
    done: Mapping[str, Any] = MappingProxyType({}),
) -> list[str]:
    """A small table: the test metrics of a run beside its teacher, other runs of the same student, and the majority.

    Args:
        known: metrics of the run, as in metrics.json.
        own: the name of its model.
        beside: metrics of other runs, by what to call them.
        done: the content of the run's ``done.json``.

    Example:
        >>> found = {"test/accuracy": 0.5, "teacher/test/accuracy": 0.75, "test/majority": 0.25}
        >>> print("\\n".join(compared(found, "student", {})))
                  test/accuracy
        student           0.500
        teacher           0.750
        majority          0.250
    """
    shown, follows = [f"test/{name}" for name in columns([done])], primaries([done])[1:]
    others = {name for name in known if name.startswith("test/") and name.count("/") == 1}
    others -= {MAJORED, "test/loss", "test/rows", *shown}
    first, *rest = [name for name in shown if name in known] or [""]
    last = [name for name in rest if name.removeprefix("test/") in follows]
    apart = families([name for name in shown if name in known])
    inside = {name for some in apart.values() for name in some}
    names = [name for name in (first, *sorted({*rest, *others} - {*last} - inside), *last) if name not in {"", *inside}]
    every = [*names, *inside]
    if not every:
        return []
    rows = {own: known}
    if taught := {name: known[f"teacher/{name}"] for name in every if f"teacher/{name}" in known}:
        rows["teacher"] = taught
    for name, values in beside.items():
        rows[name] = {key: value for key, value in values.items() if key not in last or key in inside}
    if MAJORED in known:
        rows[MAJORITY] = {f"test/{OF}": known[MAJORED]}
    heads = [name if name == names[0] else name.rpartition("/")[2] for name in names]
    corner = terminal.counted(int(known["test/rows"]), "test row") if "test/rows" in known else ""
    lines = _table(corner, names, heads, rows) if names else []
    for family, some in apart.items():
        filled = {row: values for row, values in rows.items() if set(some) & set(values)}
        lines += _table(family, some, [name.rpartition("/")[2] for name in some], filled)
    return lines


def families(names: Sequence[str]) -> dict[str, list[str]]:
    """Metrics of the same prefix, where they are enough for a table of their own, by the prefix.

    Example:
        >>> families(["test/accuracy", "test/fidelity/kl", "test/a/x", "test/a/y", "test/a/z"])
        {'a': ['test/a/x', 'test/a/y', 'test/a/z']}
    """
    found: dict[str, list[str]] = {}
    for name in names:
        if name.count("/") > 1:
            found.setdefault(name.split("/")[1], []).append(name)
    return {family: some for family, some in found.items() if len(some) >= FAMILY}


def _table(
    corner: str, names: Sequence[str], heads: Sequence[str], rows: Mapping[str, Mapping[str, float]]
) -> list[str]:
    wide = max(len(corner), *map(len, rows))
    lines = [f"{corner:<{wide}}" + "".join(f"  {head:>6}" for head in heads)]
    for row, values in rows.items():
        cells = (f"{values[name]:.3f}" if name in values else "" for name in names)
        line = f"{row:<{wide}}" + "".join(
            f"  {cell:>{max(len(head), 6)}}" for cell, head in zip(cells, heads, strict=True)
        )
        lines.append(line.rstrip())
    return lines


def without_teacher(folder: Path) -> Mapping[str, float]:
    """The metrics of the finished run that differs from this one only in having no teacher (``loss=ce``); or nothing.

    Only runs whose id has the same words are looked into, with ``ce`` as the loss.
    """
    return next((record(other).metrics for other in _same_student(folder, "ce")), {})


def distilled(folder: Path) -> Mapping[str, float]:
    """The metrics of the finished run with the best validation among those that differ from this one, which has no
    teacher, in having one; or nothing."""
    found = [one for other in _same_student(folder, "*") if is_taught(one := record(other))]
    valued = [one for one in found if isinstance(one.done.get("value"), int | float)]
    names = {str(one.done.get("metric")) for one in valued}
    if len(names) != 1:
        return found[0].metrics if found else {}
    sign = -1 if higher_is_better(names.pop(), gathered(one.done for one in valued)) is False else 1
    return max(valued, key=lambda one: sign * one.done["value"]).metrics


def is_taught(one: Record) -> bool:
    """Whether a run learned from a teacher."""
    return any(name.startswith("teacher/test/") for name in one.metrics)


def teacher_test(folder: Path) -> dict[str, float]:
    """The test metrics of the run that a student was made of, as ``teacher/test/...``, if it had the same test rows."""
    recorded = teachers_of(folder).get("teacher")
    if recorded is None:
        return {}
    this, other = record(folder), record(Path(recorded))
    if not this.test.get("set") or this.test.get("set") != other.test.get("set"):
        return {}
    return {f"teacher/{name}": value for name, value in other.metrics.items() if name.startswith("test/")}


def _same_student(folder: Path, loss: str) -> Iterator[Path]:
    """The finished runs of the same words but for the loss whose student, data and training are those of this one."""
    this = read_config(folder)
    words = folder.name.partition(f"-{this.get('choice', {}).get('loss')}-")[0]
    places = folder.parent.glob(f"{escape(words)}-{loss}-*s{this.get('seed')}-*/done.json")
    for done in sorted(places, key=lambda path: path.stat().st_mtime, reverse=True)[:MOST]:
        try:
            if done.parent != folder and read_done(done.parent) and _student(done.parent) == _student(folder):
                yield done.parent
        except UserError:  # a damaged neighbour
            continue


def shorter(folder: Path) -> Path | None:
    """A finished run that is this one but for fewer epochs or steps; None: there is none, or too many to look into."""
    alike = [path for path in folder.parent.glob(f"{folder.name[:-8]}*/done.json") if path.parent != folder]
    for path in alike if len(alike) <= MANY else ():
        with suppress(UserError):
            (rest, this), (same, that) = _length(folder), _length(path.parent)
            if rest == same and read_done(path.parent) and any(b < a for a, b in zip(this, that, strict=True)):
                return path.parent
    return None


def _length(folder: Path) -> tuple[str, list[float]]:
    """A hash of all that a run does but for how long it trains, and the limits of that."""
    plain: Any = as_plain(read_config(folder))
    limits = [plain.get("trainer", {}).pop(name, None) for name in ("max_epochs", "max_steps")]
    return identity(plain), [float("inf") if one in (None, -1) else float(one) for one in limits]


def _student(folder: Path) -> str:
    """A hash of all that can change what a student reaches without a teacher."""
    config = read_config(folder)
    kept = {key: value for key, value in config.items() if key not in OTHERS}
    plain: Any = as_plain(made(kept))
    if isinstance(plain.get("datamodule"), dict):
        plain["datamodule"].pop("unlabelled", None)  # rows without a label teach nothing without a teacher
    return identity(plain)
