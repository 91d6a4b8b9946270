"""However many build a store at once, and whatever happens to them, it is the store that one makes alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.file import lock
from kdlab.store import build as store_build
from kdlab.store.build import TargetChunk, open_or_build
from kdlab.store.store import Store, remove

LENGTHS = np.arange(1, 13, dtype=np.int64)
GROUPS = [np.array(rows) for rows in ([11, 0], [10], [1, 9], [8], [7, 2], [6], [5], [4, 3])]


def said(rows: np.ndarray) -> TargetChunk:
    """Numbers that tell of which row and token they are."""
    tokens = np.concatenate([[[row, place] for place in range(LENGTHS[row])] for row in rows]).astype(np.float16)
    return TargetChunk(rows, {"logits": ("row", rows[:, None].astype(np.float32)), "hidden.0": ("token", tokens)})


def build(numbers: Iterator[int]) -> Iterator[TargetChunk]:
    return (said(GROUPS[number]) for number in numbers)


def made(root: Path, how: Callable[[Iterator[int]], Iterator[TargetChunk]] = build, groups: list = GROUPS) -> Store:
    return open_or_build(root, "k", {}, LENGTHS, groups, how)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(store_build, "LEAST_PARTS", 2)


@pytest.fixture
def whole(tmp_path) -> dict[str, str]:
    """The checksums of a store that one process built without a disturbance."""
    return made(tmp_path / "whole").meta["files"]


def forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def logged(path: Path, seconds: float = 0.0, die: int = -1) -> Callable[[Iterator[int]], Iterator[TargetChunk]]:
    """Builds slowly, writes down each part that it built, and dies in one."""

    def how(numbers: Iterator[int]) -> Iterator[TargetChunk]:
        for number in numbers:
            if number == die:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(seconds)
            with path.open("a") as log:
                log.write(f"{number}\n")
            yield said(GROUPS[number])

    return how


def parts_of(*logs: Path) -> list[int]:
    return sorted(int(line) for log in logs for line in log.read_text().split())


def test_several_processes_share_the_parts(tmp_path, whole):
    logs = [tmp_path / f"{number}.log" for number in range(3)]
    children = [forked(lambda log=log: made(tmp_path / "together", logged(log, 0.2))) for log in logs]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert parts_of(*logs) == list(range(len(GROUPS))), "each part once"
    assert all(len(parts_of(log)) >= 2 for log in logs), "each did something"
    assert made(tmp_path / "together").meta["files"] == whole


def test_what_a_dead_process_was_doing_is_done_by_those_who_wait_for_it(tmp_path, whole):
    slow, dies = tmp_path / "slow.log", tmp_path / "dies.log"
    children = [
        forked(lambda: made(tmp_path / "together", logged(dies, 0.3, die=1))),
        forked(lambda: made(tmp_path / "together", logged(slow, 0.05))),
    ]
    assert [os.waitpid(child, 0)[1] for child in children] == [signal.SIGKILL, 0]
    assert parts_of(slow) == list(range(len(GROUPS)))
    assert made(tmp_path / "together").meta["files"] == whole


@settings(max_examples=20, deadline=None)
@given(stops=st.lists(st.integers(1, 8), max_size=4))
def test_an_interrupted_build_goes_on_and_ends_with_the_same_bytes(tmp_path_factory, stops):
    root, asked = tmp_path_factory.mktemp("torn"), []

    def dying(numbers: Iterator[int]) -> Iterator[TargetChunk]:
        for count, number in enumerate(numbers, 1):
            asked.append(number)
            yield said(GROUPS[number])
            if stops and count == stops[0]:
                stops.pop(0)
                raise KeyboardInterrupt

    interrupted = 0
    while stops:
        try:
            made(root, dying)
            break
        except KeyboardInterrupt:
            interrupted += 1
            assert not (root / "k").exists(), "what is not whole does not count"
    torn = made(root, dying)
    assert torn.meta["files"] == made(root / "whole").meta["files"]
    assert len(asked) <= len(GROUPS) + 2 * interrupted, "a shard is asked again at most"


@pytest.mark.parametrize("harm", ["cut", "alter", "empty"])
def test_a_damaged_shard_is_built_again(tmp_path, whole, harm):
    def stopped(numbers: Iterator[int]) -> Iterator[TargetChunk]:
        yield from build(iter([next(numbers), next(numbers), next(numbers)]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "store", stopped)
    (shard,) = (tmp_path / "store/.k.part").glob("*.npz")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes({"cut": content[:-30], "alter": content, "empty": b""}[harm])
    asked: list[int] = []

    def told(numbers: Iterator[int]) -> Iterator[TargetChunk]:
        for number in numbers:
            asked.append(number)
            yield said(GROUPS[number])

    assert made(tmp_path / "store", told).meta["files"] == whole
    assert asked == [*range(2, len(GROUPS)), 0, 1]


def test_whoever_cuts_the_rows_in_other_parts_mixes_nothing_up(tmp_path, whole):
    others = [np.array([row]) for row in range(12)]

    def stopped(numbers: Iterator[int]) -> Iterator[TargetChunk]:
        for count, number in enumerate(numbers):
            if count == 5:
                raise KeyboardInterrupt
            yield said(others[number])

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "store", stopped, others)
    assert made(tmp_path / "store").meta["files"] == whole
    left = {path.name for path in (tmp_path / "store/k").iterdir()}
    assert left == {"logits.npy", "hidden.0.npy", "lengths.npy", "meta.json", "used"}, "nothing else stays"


def test_a_store_that_is_being_built_is_not_removed(tmp_path):
    child = forked(lambda: made(tmp_path, logged(tmp_path / "log", 0.1)))
    while not list(tmp_path.glob(".k.part/*.npz")):
        time.sleep(0.01)
    assert not remove(tmp_path / ".k.part")
    assert os.waitpid(child, 0)[1] == 0
    assert parts_of(tmp_path / "log") == list(range(len(GROUPS)))


def test_the_time_that_a_store_took_is_that_of_all_its_builders(tmp_path):
    logs = [tmp_path / f"{number}.log" for number in range(2)]
    children = [forked(lambda log=log: made(tmp_path / "store", logged(log, 0.2))) for log in logs]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert 8 * 0.2 <= made(tmp_path / "store").seconds < 8 * 0.2 + 1.5


def test_a_finished_store_has_only_its_arrays_whatever_waited_or_died_while_it_was_built(tmp_path, whole):
    builder = tmp_path / ".k.part"
    builder.mkdir()
    for name in (
        ".meta.json.host.1.part",
        "12345678-0001.npz.host.1",
        "12345678-0000.lock",
        "12345678-0000.lock.wanted",
    ):
        (builder / name).write_text("left")
    store = made(tmp_path)
    assert store.meta["files"] == whole
    assert {path.name for path in store.folder.iterdir()} == {*whole, "meta.json", "used"}


def test_a_process_that_waits_for_a_store_prints_why(tmp_path, monkeypatch):
    heard: list[str] = []
    with ExitStack() as holder:
        holder.enter_context(lock(tmp_path / ".k.lock", "the store"))
        monkeypatch.setattr("kdlab.file.note", lambda text: (heard.append(text), holder.close()))
        made(tmp_path)
    assert heard == ["waits for another job, which is storing the teacher's outputs"]
