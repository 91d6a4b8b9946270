"""Finished runs for the tests that only need some."""

from pathlib import Path

import pytest
from fork import end, start


@pytest.fixture(scope="session")
def base(tiny, tmp_path_factory) -> Path:
    """A folder whose outputs hold a finished teacher and a finished student; copy them before you change them."""
    folder = tmp_path_factory.mktemp("base")
    code, said = end(start(["distill", *tiny["distill"], "logger=none"], folder), folder)
    assert code == 0, said
    return folder
