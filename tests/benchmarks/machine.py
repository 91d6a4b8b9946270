"""The machine that measures: its processor, its threads, clean processes with their time and peak memory, files."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.precision import multiplies_bfloat16_faster

ROOT = Path(__file__).resolve().parents[2]
# the kernel lets a process begin with the peak of the one that forked it, so a small one forks what is measured
LAUNCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def results() -> Path:
    """Where benchmarks keep what they made and measured; ``KDLAB_BENCHMARK`` says otherwise."""
    folder = Path(os.environ.get("KDLAB_BENCHMARK") or ROOT / "outputs" / "benchmark")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(name: str, payload: Mapping[str, Any]) -> Path:
    """``<results>/NAME.json`` with the machine beside what was measured."""
    path = results() / f"{name}.json"
    path.write_text(json.dumps({"machine": describe(), **payload}, indent=1) + "\n")
    print(f"wrote {path}", flush=True)
    return path


def describe() -> dict[str, Any]:
    """What decides the speed of this machine."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("torch", "transformers", "lightning"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    info = cpuinfo()
    return {
        "processor": next((line.split(":")[1].strip() for line in info.splitlines() if "model name" in line), "?"),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "bfloat16": multiplies_bfloat16_faster(info),
        "python": platform.python_version(),
        "versions": versions,
        "at": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


@dataclass(frozen=True)
class Finished:
    """One process, from its start to its end.

    Attributes:
        seconds: wall time, start-up of the interpreter included.
        peak_mb: largest resident memory of it and of the children that it waited for, each by itself.
        said: what it wrote to stdout.
    """

    seconds: float
    peak_mb: float
    said: str

    @property
    def answer(self) -> dict[str, Any]:
        """The last line that is a JSON object."""
        return last_object(self.said)


def last_object(text: str) -> dict[str, Any]:
    """The last line of a text that is a JSON object; a program may have talked before it.

    Raises:
        ValueError: there is none.
    """
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                return dict(json.loads(line))
            except ValueError:
                continue
    raise ValueError(f"no JSON object in: {text[-500:]!r}")


def environment(threads: int | None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a measured process: offline, the repository on its path, ``threads`` or the library's choice."""
    kept = {key: value for key, value in os.environ.items() if key not in THREADS}
    kept |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    if threads:
        kept |= {name: str(threads) for name in THREADS}
    return kept | dict(extra or {})


def together(
    commands: Sequence[Sequence[str]], threads: int | None = None, extra: Mapping[str, str] | None = None
) -> list[Finished]:
    """Run commands at the same time, from the repository's root.

    Raises:
        RuntimeError: one of them failed; says what it said last.
    """
    with ThreadPoolExecutor(len(commands)) as pool:
        waiting = [pool.submit(_one, command, environment(threads, extra)) for command in commands]
        return [each.result() for each in waiting]


def _one(command: Sequence[str], variables: Mapping[str, str]) -> Finished:
    with tempfile.TemporaryDirectory() as folder:
        peak = Path(folder) / "peak"
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-S", "-E", "-c", LAUNCH, str(peak), *command], cwd=ROOT, env=dict(variables),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-1500:]}")
        return Finished(seconds, int(peak.read_text()) / 1024, done.stdout)


def alone(command: Sequence[str], threads: int | None = None, extra: Mapping[str, str] | None = None) -> Finished:
    """Run one command."""
    return together([command], threads, extra)[0]


def kdlab(*words: str) -> list[str]:
    """The command line of kdlab in the environment that measures."""
    return [sys.executable, "-m", "kdlab", *words]
