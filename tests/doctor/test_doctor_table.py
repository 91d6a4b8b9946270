"""What the doctor prints beside its findings."""

from __future__ import annotations

import os

import pytest

from kdlab.doctor.table import busy


@pytest.mark.parametrize(
    ("load", "cores", "named"), [(0.4, 2, False), (1.0, 2, True), (5.2, 2, True), (5.2, 16, False)]
)
def test_a_busy_machine_is_named_beside_the_estimate(monkeypatch, load, cores, named):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert (f"load {load} on {cores} cores" in busy()) == named
