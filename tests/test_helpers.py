"""Modules that tests share are imported by their bare names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path


def test_no_two_shared_modules_have_one_name():
    """The one would hide the other wherever both of their folders have been collected."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []
