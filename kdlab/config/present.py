"""What a config names on disk: runs, and tables; all of it is looked for, and small tables are read, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdlab.config.located import located
from kdlab.config.signature import signature
from kdlab.error import UserError

NAMED = ("run", "start", "baseline")  # keys of commands that name a trained model
TABLE = "kdlab.datamodule.table.Table"
PAIRS = "kdlab.datamodule.pairs.Pairs"
CHAT = "kdlab.datamodule.chat.Chat"
REGRESSION = "kdlab.task.regression.Regression"
SMALL = 8e6  # bytes of a file that is read here; of a larger one only its name is looked at

_known: dict[tuple, str] = {}  # what is wrong with a table, by its name, its size and time, and how it is read


def check(cfg: DictConfig) -> None:
    """Look for the runs and the table that a composed config names.

    Raises:
        UserError: a run that is not there or not finished, or a table that cannot be read as the config says.
    """
    outputs = Path(str(_plain(cfg, "outputs") or "outputs"))
    for key in NAMED:
        if (name := _plain(cfg, key)) is not None:
            located(str(name), outputs, key)
    if _asks_a_teacher(cfg):
        for key, name in _teachers(_plain(cfg, "teacher"), "teacher"):
            located(name, outputs, key)
    data = _plain(cfg, "datamodule")
    if not isinstance(data, dict):
        return
    for option in ("select", "curriculum"):
        part = data.get(option)
        for name in (part.get("runs") or ()) if isinstance(part, dict) else ():
            located(str(name), outputs, f"datamodule.{option}.runs")
    if data.get("_target_") == TABLE:
        task = _plain(cfg, "task")
        numbers = isinstance(task, dict) and task.get("_target_") == REGRESSION
        _table(data, whole="baseline" not in cfg, numbers=numbers)
    elif data.get("_target_") == PAIRS and "baseline" not in cfg:
        _pairs(data)
    elif data.get("_target_") == CHAT and "baseline" not in cfg:
        _chat(data)


def _plain(cfg: DictConfig, key: str) -> Any:
    """A value with what it refers to; None where it has none, or where that cannot be known yet."""
    try:
        found = OmegaConf.select(cfg, key)
        return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
    except OmegaConfBaseException:
        return _unresolved(cfg, key)


def _unresolved(cfg: DictConfig, key: str) -> Any:
    """A mapping with those of its values that can be resolved."""
    node = cfg._get_node(key)
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or node._is_interpolation():
        return None
    return {str(name): _plain(node, str(name)) for name in node if not OmegaConf.is_missing(node, name)}


def _asks_a_teacher(cfg: DictConfig) -> bool:
    loss, student = _plain(cfg, "loss"), _plain(cfg, "student")
    if isinstance(loss, dict) and loss.get("terms") and loss.get("alpha") != 0:
        return True
    found = signature(str(student.get("_target_"))) if isinstance(student, dict) else None
    return found is not None and "teacher" in found.parameters


def _teachers(node: Any, where: str) -> Iterator[tuple[str, str]]:
    """The key that names a run, and the run, of a teacher's node and those of its members."""
    if not isinstance(node, dict):
        return
    if "recipe" in node and node.get("run") is not None:
        yield f"{where}.run", str(node["run"])
    members = node.get("members")
    for name, member in members.items() if isinstance(members, dict) else ():
        yield from _teachers(member, f"{where}.members.{name}")


def _table(node: dict[str, Any], whole: bool = True, numbers: bool = False) -> None:
    """Look into a table.

    Args:
        whole: whether the config says all of how it is read; if not, columns of the default names may be others.
        numbers: whether its labels have to be numbers.
    """
    from kdlab.datamodule.columns import Reading

    path = node.get("path")
    if not isinstance(path, str) or path.startswith(("package:", "sdist:")):
        return
    names = [*(one.name for one in fields(Reading)), "encoding", "separator", "split_column"]
    how = {name: node[name] for name in names if name in node}
    file = Path(path).expanduser()
    stamp = (file.stat().st_size, file.stat().st_mtime_ns) if file.is_file() else None
    if not whole:
        usual = Reading()
        how = {name: value for name, value in how.items() if value != getattr(usual, name, value)}
    asked = (path, stamp, repr(how), whole, numbers)
    if asked not in _known:  # the points of a sweep mostly share one
        _known[asked] = _problem(path, whole=whole, numbers=numbers, **how)
    if _known[asked]:
        raise UserError(_known[asked])


def _chat(node: dict[str, Any]) -> None:
    """Look into a file of dialogues."""
    from kdlab.datamodule.frame import whole
    from kdlab.datamodule.source import Source
    from kdlab.datamodule.turns import Turns

    turns = Turns(**{one.name: node[one.name] for one in fields(Turns) if one.name in node})
    path = node.get("path")
    if not isinstance(path, str) or path.startswith(("package:", "sdist:")):
        return
    source = Source(Path(path).expanduser(), path, node.get("encoding"), node.get("separator"))
    state = source.path.stat()
    asked = (path, (state.st_size, state.st_mtime_ns), repr(turns), repr(node.get("split_column")))
    if state.st_size <= SMALL and asked not in _known:
        turns.gathered(whole(source).without_empty(), node.get("split_column"))
        _known[asked] = ""


def _problem(
    path: str,
    encoding: str | None = None,
    separator: str | None = None,
    split_column: Any = None,
    whole: bool = True,
    numbers: bool = False,
    **how: Any,
) -> str:
    """What is wrong with a table; "": nothing, or it is large.

    Args:
        how: the arguments that say how its columns are read.
    """
    from kdlab.datamodule.columns import Reading
    from kdlab.datamodule.frame import whole as rows_of
    from kdlab.datamodule.source import Source

    try:
        reading = Reading(**how)
        source = Source(Path(path).expanduser(), path, encoding, separator)
        if source.path.stat().st_size > SMALL:
            return ""
        frame = rows_of(source).without_empty()
        if not whole:
            for name in ("text_column", "label_column"):
                if isinstance(how.get(name), str) and "{" not in how[name]:
                    frame.column(how[name], name)
        else:
            corpus = reading.gathered(frame, None if split_column is None else reading.splits(frame, split_column))
            corpus.check()
            if numbers:
                corpus.numbers()
            else:
                corpus.check_classes()
    except UserError as problem:
        return str(problem)
    return ""


def _pairs(node: dict[str, Any]) -> None:
    """Look into a table of pairs, where it is small."""
    from kdlab.datamodule.frame import whole as rows_of
    from kdlab.datamodule.pair_columns import PairReading
    from kdlab.datamodule.source import Source

    path = node.get("path")
    reading = PairReading(**{one.name: node[one.name] for one in fields(PairReading) if one.name in node})
    if not isinstance(path, str) or path.startswith(("package:", "sdist:")):
        return
    source = Source(Path(path).expanduser(), path, node.get("encoding"), node.get("separator"))
    if not source.path.is_file() or source.path.stat().st_size <= SMALL:
        reading.gathered(rows_of(source).without_empty()).check()
