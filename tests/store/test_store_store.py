"""What is stored is what was said, whatever its shape, however often the writing was interrupted."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.store.array import plain, tensor
from kdlab.store.build import TargetChunk, open_or_build
from kdlab.store.inference import storage_rows
from kdlab.store.store import key, opened, remove, unused_days

LENGTHS = np.array([3, 1, 4, 2, 5], np.int64)


def said(rows: np.ndarray) -> TargetChunk:
    """Numbers that tell of which row, token and pair they are."""
    tokens = np.concatenate([[[row, place] for place in range(LENGTHS[row])] for row in rows]).astype(np.float32)
    pairs = [[row, i, j] for row in rows for i in range(LENGTHS[row]) for j in range(LENGTHS[row])]
    values = {"logits": ("row", np.stack([rows, rows**2], -1).astype(np.float32)), "hidden.0": ("token", tokens)}
    return TargetChunk(rows, values | {"attention.0": ("pair", np.array(pairs, np.float32))})


ORDER = [np.array([4, 2]), np.array([0]), np.array([3, 1])]


def build(numbers: Iterator[int]) -> Iterator[TargetChunk]:
    return (said(ORDER[number]) for number in numbers)


def refused(numbers: Iterator[int]) -> Iterator[TargetChunk]:
    pytest.fail("built again")


@settings(max_examples=20)
@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_any_rows_come_back_padded(tmp_path_factory, rows):
    whole = open_or_build(tmp_path_factory.getbasetemp() / "store", "any", {"of": "a test"}, LENGTHS, ORDER, build)
    rows = np.array(rows)
    length = int(LENGTHS[rows].max())
    np.testing.assert_array_equal(whole.gather("logits", rows, length), np.stack([rows, rows**2], -1))
    hidden, attention = (whole.gather(name, rows, length) for name in ("hidden.0", "attention.0"))
    assert hidden.shape == (len(rows), length, 2) and attention.shape == (len(rows), 3, length, length)
    for place, row in enumerate(rows):
        real = LENGTHS[row]
        np.testing.assert_array_equal(hidden[place, :real, 0], row)
        np.testing.assert_array_equal(hidden[place, :real, 1], np.arange(real))
        assert not hidden[place, real:].any()
        for i in range(real):
            np.testing.assert_array_equal(attention[place, :, i, :real], [[row] * real, [i] * real, range(real)])
        assert not attention[place, :, real:].any() and not attention[place, :, :, real:].any()


def test_a_finished_store_is_not_built_again_and_an_altered_one_is(tmp_path):
    open_or_build(tmp_path, "k", {}, LENGTHS, ORDER, build)
    open_or_build(tmp_path, "k", {}, LENGTHS, ORDER, refused)
    path = tmp_path / "k/logits.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="was altered"):
        opened(tmp_path / "k")
    assert (
        opened(open_or_build(tmp_path, "k", {}, LENGTHS, ORDER, build).folder).gather("logits", np.array([2]), 1)[0, 1]
        == 4
    )


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 8}))
    with pytest.raises(UserError, match=r"need 0 MB.*0 MB are free.*teacher\.dtype=bfloat16"):
        open_or_build(tmp_path, "k", {}, LENGTHS, ORDER, build)


def test_the_address_is_a_matter_of_content_alone():
    assert key(a=1, b=["x"]) == key(b=["x"], a=1) != key(a=2, b=["x"])


def test_an_unused_store_is_known_by_its_last_use_and_can_be_removed(tmp_path):
    folder = open_or_build(tmp_path, "k", {}, LENGTHS, ORDER, build).folder
    os.utime(folder / "used", (time.time() - 3 * 86400,) * 2)
    assert 2.9 < unused_days(folder) < 3.1
    opened(folder)
    assert unused_days(folder) > 2.9, "looking is not using"
    open_or_build(tmp_path, "k", {}, LENGTHS, ORDER, build)
    assert unused_days(folder) < 0.1
    remove(folder)
    assert not folder.exists()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_type_comes_back_as_it_was(dtype):
    values = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    kept = plain(values)
    assert kept.nbytes == values.numel() * values.element_size()
    assert torch.equal(tensor(kept, dtype), values.float())


def test_taps_are_told_apart_by_their_shape():
    real = torch.tensor([[True, True, False], [True, False, False]])
    kinds = {
        "row": torch.randn(2, 4), "token": torch.randn(2, 3, 4), "pair": torch.randn(2, 5, 3, 3),
    }  # fmt: skip
    found = {name: storage_rows(tap, real) for name, tap in kinds.items()}
    assert {name: (kind, values.shape) for name, (kind, values) in found.items()} == {
        "row": ("row", (2, 4)), "token": ("token", (3, 4)), "pair": ("pair", (5, 5)),
    }  # fmt: skip


def test_declared_axes_decide_before_the_shape():
    real = torch.ones(2, 3, dtype=torch.bool)
    image = torch.randn(2, 5, 3, 3)
    assert storage_rows(image, real)[0] == "pair"
    kind, values = storage_rows(image, real, ("row", "channel", "height", "width"))
    assert kind == "row" and values.shape == (2, 5, 3, 3)
    assert storage_rows(torch.randn(2, 3, 4), real, ("row", "token", "width"))[0] == "token"
    assert storage_rows(torch.randn(2, 3), real, ("row", "class"))[0] == "row"


def test_what_a_store_is_of_stands_in_it(tmp_path):
    folder = open_or_build(tmp_path, "k", {"teacher": "abc"}, LENGTHS, ORDER, build).folder
    meta = json.loads((folder / "meta.json").read_text())
    assert (
        meta["teacher"] == "abc" and meta["rows"] == 5 and set(meta["arrays"]) == {"logits", "hidden.0", "attention.0"}
    )
