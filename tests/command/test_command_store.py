"""`kdlab store` says what is kept, finds what is damaged, and removes what nobody uses and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from kdlab.store.build import TargetChunk, open_or_build


@pytest.fixture
def kept(kdlab):
    """Two stores, of which one was last used three days ago, and one that was left unfinished."""
    root = Path("outputs/store")
    for key in ("fresh", "stale"):
        part = TargetChunk(np.arange(4), {"logits": ("row", np.zeros((4, 2), np.float32))})
        open_or_build(
            root,
            key,
            {"of": f"teacher-of-{key}"},
            np.ones(4, np.int64),
            [part.rows],
            lambda numbers, part=part: (part for _ in numbers),
        )
    os.utime(root / "stale/used", (time.time() - 3 * 86400,) * 2)
    (root / ".torn.part").mkdir()
    (root / ".torn.part/logits.npy").write_bytes(bytes(1000))
    return root


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


def test_it_lists_what_is_there_and_does_not_count_that_as_use(kdlab, kept):
    for _ in range(2):
        code, out, err = kdlab("store")
        assert code == 0, err
        assert "3 stores" in out and "teacher-of-fresh" in out and "3 days" in out and "unfinished" in out
    assert names(kept) == {"fresh", "stale", ".torn.part"}


def test_it_finds_what_was_altered(kdlab, kept):
    assert kdlab("store", "action=verify")[0] == 0
    path = kept / "fresh/logits.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, _out, err = kdlab("store", "action=verify")
    assert code == 2 and "fresh are damaged" in err
    assert kdlab("store", "action=prune")[0] == 0
    assert names(kept) == {"stale"}, "what is damaged or unfinished is gone"


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["unused_days=2"], {"fresh"}), (["unused_days=9"], {"fresh", "stale"}), ([], {"fresh", "stale"}),
        (["select=fre*"], {"stale", ".torn.part"}), (["select=[fresh,stale]"], {".torn.part"}),
    ],
)  # fmt: skip
def test_it_removes_what_was_asked_for(kdlab, kept, words, left):
    code, _out, err = kdlab("store", "action=prune", *words)
    assert code == 0, err
    assert names(kept) == left


def test_mistakes_are_one_sentence(kdlab):
    code, _, err = kdlab("store", "action=purge")
    assert code == 2 and err == "error: action is 'purge', but must be one of list, verify, prune\n"
    assert "no store in" in kdlab("store")[1]
