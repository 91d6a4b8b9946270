"""A real SLURM cluster of two nodes for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox import Cluster, running
from sweeps import QUICK, ROOT, TWO_SEEDS, Sweep, local


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    if os.geteuid() or not shutil.which("slurmctld"):
        pytest.skip("needs root and Debian's slurmctld; `make test-cluster` installs it")
    with running() as cluster:
        os.environ["SLURM_CONF"] = str(cluster.conf)
        os.environ["PYTHONPATH"] = str(ROOT)
        yield cluster
        del os.environ["SLURM_CONF"]


@pytest.fixture
def sweep(slurm, tmp_path, tiny) -> Iterator[Sweep]:
    """Short runs of tiny models; what they still do at the end of the test is ended."""
    words = [*tiny["distill"], *QUICK, "logger=none"]
    one = Sweep(slurm, tmp_path, words)
    yield one
    for driver in one.drivers:
        if driver.poll() is None:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
    slurm.ask("scancel", "--user=root")
    one.settle()


@pytest.fixture(scope="session")
def undisturbed(tiny, tmp_path_factory) -> Path:
    """The folder of the sweep over two seeds that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    local(folder, *tiny["distill"], *TWO_SEEDS)
    return folder


@pytest.fixture
def taught(sweep, undisturbed) -> Sweep:
    """A sweep whose teacher is trained and asked already, to save time."""
    for name in ("finetune", "store"):
        shutil.copytree(undisturbed / "outputs" / name, sweep.folder / "outputs" / name)
    return sweep
