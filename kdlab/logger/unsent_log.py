"""A copy of a W&B log without the rows that a server has already, whole even where the log is damaged.

``wandb sync`` appends: what a server took before it died would be there twice. It also stops at the first bad block of
a log and calls that a success.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdlab.logger.wandb_log import BLOCK, CHUNK, FIRST, FULL, HEADER, LAST, MIDDLE, RECORD, records


def copy(log: Path, folder: Path, skip: int = 0, before: int = 0, runtime: float = 0.0) -> Path:
    """Write what is left of ``log`` into ``folder``, beside a link to its files.

    Args:
        skip: rows of its history to leave out, from the beginning.
        before: rows in earlier logs of the run; W&B counts those of this one on from there.
        runtime: seconds that the run took in earlier logs.

    Returns:
        The copy.
    """
    kept: list[bytes] = []
    first = None
    for raw in records(log.read_bytes(), []):
        try:
            record = RECORD.FromString(raw)
        except Exception:  # whatever a damaged file makes of protobuf; the reader of logs names it
            continue
        if record.WhichOneof("record_type") == "history":
            if skip:
                skip, before = skip - 1, before + 1
                continue
            first = _step(record) if first is None else first
            raw = _moved(record, first) if first else raw
        kept.append(raw)
    folder.mkdir(parents=True)
    target = folder / log.name
    target.write_bytes(framed(kept))
    state = {"starting_step": before, "starting_runtime": round(1000 * runtime)}  # milliseconds
    target.with_name(target.name + ".syncstate").write_text(json.dumps(state))
    if (log.parent / "files").is_dir():
        (folder / "files").symlink_to((log.parent / "files").resolve(), target_is_directory=True)
    return target


def framed(recs: Iterable[bytes]) -> bytes:
    """Records as a log file: the opposite of :func:`kdlab.logger.wandb_log.records`."""
    out = bytearray(HEADER)
    for record in recs:
        rest, kinds = record, (FULL, FIRST)
        while True:
            left = BLOCK - len(out) % BLOCK
            if left < CHUNK.size:
                out += bytes(left)
                continue
            part, rest = rest[: left - CHUNK.size], rest[left - CHUNK.size :]
            kind = kinds[1] if rest else kinds[0]
            out += CHUNK.pack(zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part
            if not rest:
                break
            kinds = (LAST, MIDDLE)
    return bytes(out)


def _step(record: Any) -> int:
    for item in record.history.item:
        if (list(item.nested_key) or [item.key]) == ["_step"]:
            return int(json.loads(item.value_json))
    return int(record.history.step.num)


def _moved(record: Any, by: int) -> bytes:
    for item in record.history.item:
        if (list(item.nested_key) or [item.key]) == ["_step"]:
            item.value_json = str(int(json.loads(item.value_json)) - by)
    if record.history.HasField("step"):
        record.history.step.num -= by
    return record.SerializeToString()
