"""Imports go on without the garbage collector, which is as it was afterwards."""

from __future__ import annotations

import gc
import sys

import pytest

from kdlab.importing import MANY, importing


def test_nothing_is_collected_meanwhile_and_again_afterwards():
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_who_collects_nothing_is_left_alone():
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(("count", "frozen"), [(MANY - 1, False), (MANY + 1, True)])
def test_only_after_very_many_imports_what_there_is_stays_for_good(monkeypatch, count, frozen):
    calls = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(True))
    with importing():
        for number in range(count):
            monkeypatch.setitem(sys.modules, f"made_up_{number}", None)
    assert bool(calls) is frozen
