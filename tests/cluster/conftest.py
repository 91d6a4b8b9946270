"""A real SLURM cluster of two nodes for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox import Cluster, running
from sweeps import PYTHONPATH, QUICK, TWO_SEEDS, Sweep, local

rows: list[tuple[str, int, int, bool]] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    mark = item.get_closest_marker("fault")
    if mark is not None and report.when == "call" and not report.skipped:
        name = mark.kwargs["name"]
        rows.append((name, mark.kwargs.get("injected", 1), mark.kwargs["runs"], report.passed))
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    """What was done to sweeps, and how many runs were lost: none where its test passed, since it looked at each."""
    if not rows:
        return
    merged: dict[str, list[int]] = {}
    for name, injected, runs, passed in rows:
        one = merged.setdefault(name, [0, 0, 0])
        one[0], one[1], one[2] = one[0] + injected, one[1] + runs, one[2] + (0 if passed else runs)
    total = [sum(column) for column in zip(*merged.values(), strict=True)]
    write = terminalreporter.write_line
    terminalreporter.section("faults")
    write("| fault | injected | runs | lost |")
    write("|---|---|---|---|")
    for name, numbers in [*merged.items(), ("**all**", total)]:
        write(f"| {name} | {' | '.join(map(str, numbers))} |")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    if os.geteuid() or not shutil.which("slurmctld"):
        pytest.skip("needs root and Debian's slurmctld; `make test-cluster` installs it")
    with running() as cluster:
        os.environ["SLURM_CONF"] = str(cluster.conf)
        os.environ["PYTHONPATH"] = PYTHONPATH
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
