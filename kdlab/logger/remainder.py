"""A copy of a W&B log without the rows that a server has already, whole even where the log is damaged.

``wandb sync`` appends: what a server took before it died would be there twice. It also stops at the first bad block of
a log and calls that a success.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path

from kdlab.logger.wandb_log import BLOCK, CHUNK, FIRST, FULL, HEADER, LAST, MIDDLE, RECORD, records


def copy(log: Path, folder: Path, skip: int = 0) -> Path:
    """Write what is left of ``log`` into ``folder``, beside a link to its files.

    W&B counts the steps of a log on from the server's last one, so those of the copy begin at 0.

    Args:
        skip: rows of its history to leave out, from the beginning.

    Returns:
        The copy.
    """
    kept: list[bytes] = []
    first = None
    for raw in records(log.read_bytes(), []):
        record = RECORD.FromString(raw)
        if record.WhichOneof("record_type") == "history":
            if skip:
                skip -= 1
                continue
            first = _step(record) if first is None else first
            raw = _moved(record, first)
        kept.append(raw)
    folder.mkdir(parents=True)
    target = folder / log.name
    target.write_bytes(framed(kept))
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


def _step(record) -> int:
    for item in record.history.item:
        if (list(item.nested_key) or [item.key]) == ["_step"]:
            return int(json.loads(item.value_json))
    return int(record.history.step.num)


def _moved(record, by: int) -> bytes:
    for item in record.history.item:
        if (list(item.nested_key) or [item.key]) == ["_step"]:
            item.value_json = str(int(json.loads(item.value_json)) - by)
    if record.history.HasField("step"):
        record.history.step.num -= by
    return record.SerializeToString()
