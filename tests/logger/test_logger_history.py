"""history.csv: what was logged is what is read, and a resumed file equals an undisturbed one."""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.logger.base import RunInfo
from kdlab.logger.history import History


def history(folder, resumed_step=0) -> History:
    return History(
        RunInfo(id="x", folder=Path(folder), outputs=Path(folder), command="distill", resumed_step=resumed_step)
    )


def table(folder):
    with (Path(folder) / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


NAME = st.sampled_from(["train/loss", "train/loss/kl", "val/accuracy", 'odd, "name"'])
VALUE = st.floats(allow_nan=False, width=32)
ROWS = st.lists(st.tuples(st.integers(0, 2), st.dictionaries(NAME, VALUE, min_size=1)), min_size=1, max_size=12)


def steps(rows):
    """(gap, metrics) -> (step, metrics) with steps that never fall and sometimes stay."""
    step, made = 0, []
    for gap, metrics in rows:
        step += gap
        made.append((step, metrics | {"epoch": step // 3}))
    return made


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_holds_every_number_once_a_step(rows):
    with TemporaryDirectory() as folder:
        expected: dict[int, dict] = {}
        logger = history(folder)
        for step, metrics in steps(rows):
            logger.log_metrics(metrics, step)
            expected.setdefault(step, {}).update(metrics)
            found = {
                int(row.pop("step")): {name: float(cell) for name, cell in row.items() if cell} for row in table(folder)
            }
            assert found == expected  # after every call: nothing waits in memory
        assert [path.name for path in Path(folder).iterdir()] == ["history.csv"]


@settings(max_examples=40, deadline=None)
@given(ROWS, st.data())
def test_resumed_equals_undisturbed(rows, data):
    logged = steps(rows)
    resumed = data.draw(st.integers(0, logged[-1][0] + 1))
    killed = data.draw(st.integers(sum(step < resumed for step, _ in logged), len(logged)))
    with TemporaryDirectory() as whole, TemporaryDirectory() as broken:
        one = history(whole)
        for step, metrics in logged:
            one.log_metrics(metrics, step)
        two = history(broken)
        for step, metrics in logged[:killed]:
            two.log_metrics(metrics, step)
        three = history(broken, resumed)
        for step, metrics in logged:
            if step >= resumed:
                three.log_metrics(metrics, step)
        assert (Path(whole) / "history.csv").read_bytes() == (Path(broken) / "history.csv").read_bytes()


def test_columns_in_the_order_they_appear(tmp_path):
    logger = history(tmp_path)
    logger.log_metrics({"train/loss": 1.0, "epoch": 0}, 0)
    logger.log_metrics({"val/accuracy": 0.5, "epoch": 0}, 0)
    assert (tmp_path / "history.csv").read_text() == "step,epoch,train/loss,val/accuracy\n0,0,1.0,0.5\n"


def test_a_line_that_was_cut_is_no_row(tmp_path):
    logger = history(tmp_path)
    for step in range(3):
        logger.log_metrics({"train/loss": 1.5}, step)
    file = tmp_path / "history.csv"
    file.write_bytes(file.read_bytes()[:-3])
    history(tmp_path, 3)
    assert [row["step"] for row in table(tmp_path)] == ["0", "1"]


def test_a_fresh_start_drops_an_old_file(tmp_path):
    history(tmp_path).log_metrics({"train/loss": 1.0}, 0)
    history(tmp_path)
    assert table(tmp_path) == []


@pytest.mark.parametrize("size", [2000])
def test_a_row_costs_little(tmp_path, size):
    import time

    logger = history(tmp_path)
    start = time.perf_counter()
    for step in range(size):
        logger.log_metrics({"train/loss": 0.1, "epoch": 0}, step)
    assert (time.perf_counter() - start) / size < 0.002
    assert len(table(tmp_path)) == size


@pytest.mark.parametrize("content", [b"\xff\xfe\x00step\n", b"step,epoch\n\x80,1\n"])
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"history.csv is damaged .*rerun=true"):
        history(tmp_path, resumed_step=3)


def test_rows_without_a_step_are_not_gone_on_with(tmp_path):
    (tmp_path / "history.csv").write_text("step,epoch\nx,1\n0,0\n")
    history(tmp_path, resumed_step=3)
    assert [row["step"] for row in table(tmp_path)] == ["0"]
