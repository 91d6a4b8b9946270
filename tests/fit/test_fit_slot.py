"""A job that began before its turn waits for it, and for nothing that would wait for this job."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time

import pytest

from kdlab.artifact.run import awaited, claim
from kdlab.fit import slot


@pytest.fixture
def sign(monkeypatch):
    mine, theirs = multiprocessing.Pipe(duplex=False)
    monkeypatch.setattr(slot, "_signs", [])
    slot.reserve(mine)
    return theirs


def test_whose_turn_it_is_does_not_wait(monkeypatch):
    monkeypatch.setattr(slot, "_signs", [])
    assert slot.wait() < 0.05


def test_it_waits_until_its_turn_comes_and_then_never_again(sign):
    threading.Timer(0.3, sign.send, [True]).start()
    assert slot.wait() > 0.2
    assert slot.wait() < 0.05


def test_it_ends_where_its_turn_will_never_come(sign):
    sign.send(False)
    with pytest.raises(KeyboardInterrupt):
        slot.wait()


def test_it_ends_with_who_would_have_told(sign):
    sign.close()
    with pytest.raises(KeyboardInterrupt):
        slot.wait()


def test_who_is_waited_for_does_not_wait(sign, tmp_path):
    """Else a job whose teacher is a later job of its sweep, and that job, would wait for each other for good."""
    asks = f"from kdlab.artifact.run import claim\nwith claim({str(tmp_path / 'run')!r}): print('mine')"
    with claim(tmp_path / "run"), claim(tmp_path / "other"):
        assert not awaited()
        other = subprocess.Popen([sys.executable, "-c", asks], stdout=subprocess.PIPE, text=True)
        assert slot.wait() < 60, "nothing was told"
        assert awaited()
    assert "mine" in other.communicate(timeout=60)[0]
    with claim(tmp_path / "run"):
        assert not awaited()


def test_a_run_that_is_emptied_keeps_who_waits_for_it(tmp_path):
    asks = f"from kdlab.artifact.run import claim\nwith claim({str(tmp_path / 'run')!r}): pass"
    with claim(tmp_path / "run") as run:
        other = subprocess.Popen([sys.executable, "-c", asks])
        while not awaited():
            time.sleep(0.01)
        run.clear()
        assert awaited()
    assert other.wait(60) == 0
