"""Whether a folder whose commands were killed holds what an undisturbed one holds, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdlab.logger.wandb_log import logs, read
from tests import bits

KINDS = ("lost", "duplicated", "different", "left behind")
SAME = ("config.yaml", "overrides.yaml", "teacher.json", "test.json", "trained_on.npy", "model/*")  # to the byte
WANDB = "outputs/wandb"  # W&B's own; what kdlab promises of it is in the logs
LOCKS = "cache/lock/"  # named by where the cache is, and they stay, for others may wait for them
STEP = "trainer/global_step"
WAITED = re.compile(r"(^|/)\.[^/]*lock\.wanted$")  # beside a lock for which somebody waited, as without a kill


@dataclass(frozen=True, order=True)
class Fault:
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def compare(whole: Path, killed: Path) -> list[Fault]:
    """What is wrong in ``killed``, measured by ``whole``, in which the same command was never killed."""
    return sorted({*_tree(whole, killed), *_runs(whole, killed), *_stores(whole, killed), *_wandb(whole, killed)})


def _tree(whole: Path, killed: Path) -> Iterator[Fault]:
    one, two = paths(whole), paths(killed)
    yield from (Fault("lost", f"{path} is not there") for path in one - two)
    yield from (Fault("left behind", path) for path in two - one)


def paths(folder: Path) -> set[str]:
    """Files and folders of a command, without W&B's own and what it printed."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {
        path for path in found
        if not path.startswith((f"{WANDB}/", LOCKS, "said.")) and not WAITED.search(path)
    }  # fmt: skip


def _runs(whole: Path, killed: Path) -> Iterator[Fault]:
    for done in sorted(whole.glob("outputs/*/*/done.json")):
        name = done.parent.relative_to(whole)
        one, two = whole / name, killed / name
        if not (two / "done.json").exists():
            continue  # the trees differ
        yield from _history(bits.history(one), bits.history(two), str(name))
        for pattern in SAME:
            for path in one.glob(pattern):
                same = two / path.relative_to(one)
                if same.exists() and same.read_bytes() != path.read_bytes():
                    yield Fault("different", f"{name}/{path.relative_to(one)}")
        if bits.results(one) != bits.results(two):
            yield Fault("different", f"{name}/metrics.json")
        results = [_untimed(json.loads((run / "done.json").read_text())) for run in (one, two)]
        if results[0] != results[1]:
            yield Fault("different", f"{name}/done.json")
        try:
            bits.same_checkpoints(one, two)
        except (AssertionError, FileNotFoundError) as problem:
            yield Fault("different", str(problem).splitlines()[0])


def _history(one: list[dict], two: list[dict], name: str) -> Iterator[Fault]:
    steps = Counter(row["step"] for row in two)
    yield from (Fault("duplicated", f"{name}/history.csv step {step}") for step, count in steps.items() if count > 1)
    for row in one:
        if row["step"] not in steps:
            yield Fault("lost", f"{name}/history.csv step {row['step']}")
    if one != two and len(one) == len(two):
        yield Fault("different", f"{name}/history.csv")


def _untimed(done: dict) -> dict:
    return {key: value for key, value in done.items() if key not in ("seconds", "finished_at")}


def _stores(whole: Path, killed: Path) -> Iterator[Fault]:
    for meta in whole.glob("outputs/store/*/meta.json"):
        other = killed / meta.relative_to(whole)
        if not other.exists():
            continue
        files = [json.loads(path.read_text())["files"] for path in (meta, other)]
        true = {name: hashlib.sha256((other.parent / name).read_bytes()).hexdigest() for name in files[1]}
        if not files[0] == files[1] == true:
            yield Fault("different", str(other.parent.relative_to(killed)))


def _wandb(whole: Path, killed: Path) -> Iterator[Fault]:
    """All logs of a run together have each value of each step once, and those of the undisturbed run."""
    expected, found = told(whole), told(killed)
    for run, values in expected.items():
        for (step, name), numbers in values.items():
            mine = found.get(run, {}).get((step, name), [])
            if not mine:
                yield Fault("lost", f"W&B's logs of {run}: {name} of step {step}")
            elif set(mine) != set(numbers):
                yield Fault("different", f"W&B's logs of {run}: {name} of step {step}")
            elif len(mine) > len(numbers):
                yield Fault("duplicated", f"W&B's logs of {run}: {name} of step {step}")


def told(folder: Path) -> dict[str, dict[tuple[int, str], list[float]]]:
    """By run, what its W&B logs have of each step and name, without times and W&B's own."""
    found: dict[str, dict[tuple[int, str], list[float]]] = {}
    for place in sorted((folder / WANDB).glob("*run-*-*")):
        for path in logs(place):
            log = read(path)
            run = found.setdefault(str(log.run.get("id")), {})
            for row in log.history:
                for name, value in row.items():
                    timed = name.startswith(("_", "perf/")) or name in (STEP, "epoch")
                    if STEP in row and isinstance(value, (int, float)) and not timed:
                        run.setdefault((int(row[STEP]), name), []).append(float(value))
    return found
