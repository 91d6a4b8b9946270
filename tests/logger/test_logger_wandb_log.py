"""The reader of W&B's log files: what was written is what is read, and damage is skipped and named."""

import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wandb.proto import wandb_internal_pb2 as proto

from kdlab.logger.wandb_log import BLOCK, HEADER, logs, read, records, verify


def framed(payloads) -> bytes:
    """LevelDB's log format, written out from its description: chunks of checksum, length, type; blocks of 32 KiB."""
    data = bytearray(HEADER)
    for payload in payloads:
        first = True
        while True:
            left = BLOCK - len(data) % BLOCK
            if left < 7:
                data += bytes(left)
                continue
            part, payload = payload[: left - 7], payload[left - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not payload]
            data += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
            if not payload:
                break
    return bytes(data)


def row(step) -> bytes:
    record = proto.Record()
    for key, value in (("trainer/global_step", step), ("train/loss", 1 / (step + 1)), ("padding", "x" * 200)):
        record.history.item.add(nested_key=[key], value_json=json.dumps(value))
    return record.SerializeToString()


def file_of(tmp_path, rows, exit_code=0):
    end = proto.Record()
    end.exit.exit_code = exit_code or 0
    path = tmp_path / "run-x.wandb"
    path.write_bytes(framed([*map(row, range(rows)), *([end.SerializeToString()] if exit_code is not None else [])]))
    return path


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3 * BLOCK).map(lambda size: bytes([size % 251 + 1]) * size), max_size=6))
def test_every_record_comes_back(payloads):
    problems: list[str] = []
    assert list(records(framed(payloads), problems)) == payloads
    assert not problems


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_never_raises_and_invents_nothing(data):
    payloads = [bytes([number + 1]) * 3000 for number in range(30)]
    whole = bytearray(framed(payloads))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=5)):
        whole[at] ^= data.draw(st.integers(1, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    assert set(records(cut, [])) <= set(payloads)


def test_a_bad_block_is_skipped_and_the_rest_is_read(tmp_path):
    path = file_of(tmp_path, 600)
    whole = bytearray(path.read_bytes())
    assert len(whole) > 4 * BLOCK
    whole[BLOCK + 500] ^= 1
    path.write_bytes(whole)
    log = read(path)
    assert len(log.problems) >= 1
    steps = [line["trainer/global_step"] for line in log.history]
    assert 600 - BLOCK / 200 < len(steps) < 600
    assert steps == sorted(steps)
    assert steps[-1] == 599
    assert log.exit_code == 0


def test_verify(tmp_path):
    whole = file_of(tmp_path, 100)
    assert verify(whole, 100) == []
    assert verify(whole, 99) == []  # rows logged past our count are no loss
    assert "100 of 101 logged rows" in verify(whole, 101)[0]
    assert verify(tmp_path / "gone.wandb", 1) == [f"{tmp_path / 'gone.wandb'} does not exist."]
    assert "end of the run" in verify(file_of(tmp_path, 3, exit_code=None), 3)[0]


@pytest.mark.parametrize(("content", "problem"), [(b"", "empty file"), (b"not wandb at all", "no W&B header")])
def test_foreign_files_are_named(tmp_path, content, problem):
    path = tmp_path / "run-x.wandb"
    path.write_bytes(content)
    assert read(path).problems == [problem]
    assert logs(tmp_path) == [path]
