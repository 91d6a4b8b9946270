"""The copy of a log: it reads back as what was not left out, and is whole where the log is not."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.logger.base import opened
from kdlab.logger.unsent_log import copy, framed
from kdlab.logger.wandb import WandB
from kdlab.logger.wandb_log import BLOCK, logs, read, records


@given(st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 3 * BLOCK).map(bytes)), max_size=12))
def test_records_read_back_as_they_were_written(some):
    some = [record for record in some if record]
    problems = []
    assert list(records(framed(some), problems)) == some
    assert problems == []


@pytest.fixture
def log(info, tmp_path) -> Path:
    with opened(info(config={"a": 1}), {"wandb": WandB}) as journal:
        for step in range(10):
            journal.loggers[1].log_metrics({"train/loss": step / 7}, step=step)
        journal.summary({"test/accuracy": 0.5})
    (path,) = logs(next(tmp_path.glob("wandb/*run-*")))
    return path


def test_w_and_b_s_own_framing_is_reproduced_byte_for_byte(log):
    data = log.read_bytes()
    assert framed(records(data, [])) == data


@pytest.mark.parametrize("skip", [0, 1, 9, 10, 99])
def test_a_copy_has_all_but_the_rows_left_out(log, tmp_path, skip):
    whole, part = read(log), read(copy(log, tmp_path / "copy", skip))
    assert part.problems == []
    assert (part.run, part.config, part.summary) == (whole.run, whole.config, whole.summary)
    assert part.exit_code == 0
    assert [row["trainer/global_step"] for row in part.history] == list(range(10))[skip:]
    assert [row["_step"] for row in part.history] == list(range(10 - min(skip, 10)))  # W&B adds where it begins
    state = json.loads((tmp_path / "copy" / f"{log.name}.syncstate").read_text())
    assert state == {"starting_step": min(skip, 10), "starting_runtime": 0}
    assert (tmp_path / "copy/files").resolve() == (log.parent / "files").resolve()


def test_a_copy_of_a_damaged_log_is_whole(log, tmp_path):
    data = bytearray(log.read_bytes())
    log.write_bytes(data[: len(data) // 2])
    assert read(log).problems
    part = read(copy(log, tmp_path / "copy"))
    assert part.problems == []
    assert part.history == read(log).history
