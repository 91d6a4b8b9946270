"""A sweep on disk."""

import pytest
from synthetic_run import write_sweep


@pytest.fixture
def sweep(tmp_path):
    write_sweep(tmp_path / "outputs")
    return tmp_path / "outputs"
