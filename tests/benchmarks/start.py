"""How long from the command to the first step: cold, warm, and for the later jobs of a local multirun?

Cold: an outputs folder and a cache of tokenised rows that hold nothing, so the teacher pass is in it; and, where this
process may (``/proc/sys/vm/drop_caches``), no file in memory. Warm: the same command after such a run. A later job's
time is counted from the end of the job whose place it took.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import clock, machine, setting
from tests.benchmarks.option import on, options
from tests.benchmarks.ratio import spread


def forget() -> bool:
    """Drop the files that the machine keeps in memory, where that is allowed."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


def first_step(words: list[str], place: Path, cache: Path | None = None) -> float:
    """Seconds from the start of the process to the end of its first training batch."""
    for old in place.glob("clock-*.json"):
        old.unlink()
    begun = time.time()
    machine.alone(machine.kdlab(*words), extra={"KDLAB_CACHE": str(cache)} if cache else None)
    (told,) = place.glob("clock-*.json")
    return json.loads(told.read_text())["first"] - begun


def later(words: list[str], place: Path, outputs: Path) -> list[float]:
    """Seconds from each job's end to the first batch of the job that took its place."""
    for old in place.glob("clock-*.json"):
        old.unlink()
    machine.alone(machine.kdlab(*words))
    names = [path.stem.removeprefix("clock-") for path in place.glob("clock-*.json")]
    firsts = [json.loads((place / f"clock-{name}.json").read_text())["first"] for name in names]
    ends = [(outputs / "distill" / name / "done.json").stat().st_mtime for name in names]
    return waits(firsts, ends)


def waits(firsts: list[float], ends: list[float]) -> list[float]:
    """How long each job after the first ones took to its first batch, from the end that made room for it.

    Args:
        firsts, ends: the moments of each job's first batch and of its end; as many jobs ran side by side as had begun
            before the first end.
    """
    width = sum(first < min(ends) for first in firsts)
    return [first - end for end, first in zip(sorted(ends), sorted(firsts)[width:], strict=False)]


def measure(rows: int, repeats: int, student: str = "bert_tiny", device: str = "cpu") -> dict[str, Any]:
    place = machine.results() / "start"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    outputs, cache = place / "outputs", place / "cache"
    shared = setting.common(setting.teacher(), rows, epochs=1) + setting.STUDENTS[student] + on(device)
    shared += [f"outputs={outputs}", "rerun=true", *clock.words(place / "clock-{job}.json")]
    from kdlab.fetch import cache as packages

    cold, warm, jobs, dropped = [], [], [], False
    for _ in range(repeats):
        shutil.rmtree(outputs, ignore_errors=True)
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        for kind in ("package", "sdist"):  # fetched once and for all; what is made of them is not there
            (cache / kind).symlink_to(packages() / kind)
        dropped = forget()
        cold.append(first_step(["distill", *shared], place, cache))
        warm.append(first_step(["distill", *shared], place, cache))
        jobs += later(["distill", "-m", *shared, "loss.temperature=1,2,4,8"], place, outputs)
    return {
        "rows": rows,
        "files_dropped_from_memory": dropped,
        "cold_seconds": spread(cold).plain(),
        "warm_seconds": spread(warm).plain(),
        "later_job_seconds": spread(jobs).plain(),
    }


def main() -> None:
    args = options(__doc__, rows=512)
    found = measure(args.rows, args.repeats, args.student, args.device)
    for name, aim in (("cold", "-"), ("warm", "8 s"), ("later_job", "0.5 s")):
        one = found[f"{name}_seconds"]
        print(f"{name.replace('_', ' ')}: {one['median']:.2f} s to the first step (aim {aim})")
    machine.write("start", found)


if __name__ == "__main__":
    main()
