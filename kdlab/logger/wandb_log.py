"""Read W&B's own log files (``run-<id>.wandb``): to check that an offline run is whole before it is trusted or synced.

The file is a LevelDB log (7-byte header, blocks of 32 KiB, checksummed chunks) of protocol-buffer records. wandb 0.31
has no public reader in Python.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from wandb.proto import wandb_internal_pb2 as proto

HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
BLOCK = 32768
RECORD: Any = proto.Record  # type: ignore[attr-defined]  # the generated module has no stubs
CHUNK = struct.Struct("<IHB")  # checksum, length, type
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
SENT = frozenset({  # the kinds of records that a run of kdlab has; others could read and send what else is on the disk
    "alert", "artifact", "config", "environment", "exit", "files", "final", "footer", "header", "history", "metric",
    "output", "output_logger", "output_raw", "preempting", "run", "stats", "summary", "telemetry", "use_artifact",
})  # fmt: skip
UNENDED = "the end of the run was not written."


@dataclass
class Log:
    """The content of one log file.

    Attributes:
        run: id, project, entity, group, job_type, name, tags, and ``started`` in Unix seconds.
        history: one dict per logged row.
        exit_code: None where the run did not end (it runs, or was killed).
        staged: local files that a sync would upload; sizes: of those whose size was noted, in bytes.
        artifacts: name -> type, digest, references (path -> uri) and ``input``: whether the run read it or made it.
        uploads: the local files among these that are sent themselves, and not only named.
        entities: the teams and users that the records are for, apart from the key's own.
        foreign: the kinds of records that no run of kdlab has.
        problems: parts that could not be read, one sentence each.
    """

    path: Path
    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    staged: list[Path] = field(default_factory=list)
    sizes: dict[Path, int] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploads: list[Path] = field(default_factory=list)
    entities: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def records(data: bytes, problems: list[str]) -> Iterator[bytes]:
    """The whole records in ``data``. A bad block is skipped and named in ``problems``; what follows is still read."""
    if data[: len(HEADER)] != HEADER:
        problems.append("no W&B header" if data else "empty file")
        return
    position, parts = len(HEADER), None
    while position < len(data):
        left = BLOCK - position % BLOCK
        if left < CHUNK.size or not any(data[position : position + CHUNK.size]):  # padding up to the next block
            position += left
            continue
        chunk = data[position : position + CHUNK.size]
        body = b""
        if len(chunk) == CHUNK.size:
            checksum, length, kind = CHUNK.unpack(chunk)
            body = data[position + CHUNK.size : position + CHUNK.size + length]
        if len(chunk) < CHUNK.size or len(body) < length:
            cut = position + left >= len(data)
            problems.append(f"{'cut off' if cut else 'bad block'} at byte {position}")
            position, parts = position + left, None
            continue
        if checksum != zlib.crc32(body, zlib.crc32(bytes([kind]))):
            problems.append(f"bad block at byte {position}")
            position, parts = position + left, None
            continue
        position += CHUNK.size + length
        if kind == FULL:
            yield body
        elif kind == FIRST:
            parts = body
        elif parts is not None:  # the middle of a record whose start was lost is no record
            parts += body
            if kind == LAST:
                yield parts
                parts = None


def read(path: Path) -> Log:
    """Everything the file holds; never raises for a damaged file, see ``problems``."""
    log = Log(Path(path))
    for raw in records(log.path.read_bytes(), log.problems):
        try:
            record = RECORD.FromString(raw)
            _fold(log, record)
        except Exception as error:
            log.problems.append(f"a record could not be read: {error}")
    log.config.pop("_wandb", None)
    return log


def _fold(log: Log, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind not in SENT:
        log.foreign.add(str(kind))
    elif kind == "run":
        run = record.run
        log.entities |= {run.entity} - {""}
        log.run |= {"id": run.run_id, "name": run.display_name, "project": run.project, "entity": run.entity}
        log.run |= {"group": run.run_group, "job_type": run.job_type, "tags": list(run.tags)}
        log.run |= {"started": run.start_time.ToNanoseconds() / 1e9}
        _update(log.config, run.config.update)
    elif kind == "config":
        _update(log.config, record.config.update)
    elif kind == "summary":
        _update(log.summary, record.summary.update)
    elif kind == "history":
        log.history.append(_update({}, record.history.item))
    elif kind == "files":
        files = [log.path.parent / "files" / file.path for file in record.files.files]
        log.staged += files
        log.uploads += files
    elif kind == "artifact":
        _artifact(log, record.artifact)
    elif kind == "exit":
        log.exit_code = record.exit.exit_code


def _artifact(log: Log, artifact: Any) -> None:
    references = {entry.path: entry.ref for entry in artifact.manifest.contents if entry.ref}
    log.artifacts[artifact.name] = {
        "type": artifact.type,
        "input": artifact.use_after_commit,
        "digest": artifact.digest,
        "references": references,
    }
    log.entities |= {artifact.entity} - {""}
    if artifact.manifest.manifest_file_path:
        log.foreign.add("artifact with a manifest of its own")
    for entry in artifact.manifest.contents:
        if entry.local_path:
            log.staged.append(Path(entry.local_path))
            log.uploads.append(log.staged[-1])
            log.sizes[log.staged[-1]] = entry.size
    log.staged += [Path(unquote(urlparse(uri).path)) for uri in references.values() if uri.startswith("file://")]


def _update(target: dict[str, Any], items: Iterable[Any]) -> dict[str, Any]:
    for item in items:
        *parents, last = list(item.nested_key) or [item.key]
        place = target
        for key in parents:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        place[last] = json.loads(item.value_json)
    return target


def logs(run_dir: Path) -> list[Path]:
    """The log files of one W&B directory (``offline-run-<time>-<id>``)."""
    return sorted(Path(run_dir).glob("run-*.wandb"))


def missing_files(run_dir: Path) -> list[Path]:
    """Files that a sync of ``run_dir`` needs and that are gone: ``wandb sync`` would drop them and still exit 0."""
    return [file for path in logs(run_dir) for file in read(path).staged if not file.exists()]


def settled(path: Path, rows: int, seconds: float) -> list[str]:
    """:func:`verify`, once the run's end is in the log or the time is over: W&B still writes after ``finish()``."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while (found := verify(path, rows)) and (UNENDED in found or not path.exists()) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, 0.5)
    return found


def verify(path: Path, rows: int) -> list[str]:
    """The faults of a finished run's log, one sentence each; empty: it is whole.

    Args:
        rows: number of rows that were logged.
    """
    if not path.exists():
        return [f"{path} does not exist."]
    log = read(path)
    found = list(log.problems)
    if len(log.history) < rows:
        found.append(f"{len(log.history)} of {rows} logged rows are on disk: is the disk full?")
    if log.exit_code is None:
        found.append(UNENDED)
    return found
