"""Which way fills the machine better in a local sweep: one job with all threads, or one a core with one each?"""

from __future__ import annotations

import shutil
from typing import Any

from tests.benchmarks import machine, setting
from tests.benchmarks.option import options
from tests.benchmarks.ratio import interleaved, ratios, spread

WAYS = {"default": [], "one after the other": ["hydra/launcher=basic"], "side by side": ["cluster=joblib"]}


def measure(rows: int, repeats: int, student: str = "bert_tiny") -> dict[str, Any]:
    shared = setting.common(setting.teacher(), rows, epochs=2) + setting.STUDENTS[student]
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _, name in interleaved(list(WAYS), repeats):
        outputs = machine.results() / "local-sweep"
        shutil.rmtree(outputs, ignore_errors=True)
        words = ["distill", "-m", *shared, *WAYS[name], f"outputs={outputs}", "loss.temperature=1,2,4,8"]
        seconds[name].append(machine.alone(machine.kdlab(*words)).seconds)
    return {
        "rows": rows,
        "student": student,
        "runs": 4,
        "seconds": {name: spread(values).plain() for name, values in seconds.items()},
        "side_by_side": ratios(seconds["one after the other"], seconds["side by side"]).plain(),
        "default_against_best": ratios(
            [min(pair) for pair in zip(seconds["one after the other"], seconds["side by side"], strict=True)],
            seconds["default"],
        ).plain(),
    }


def main() -> None:
    args = options(__doc__)
    found = measure(args.rows, args.repeats, args.student)
    beside, default = (found[name]["median"] for name in ("side_by_side", "default_against_best"))
    print(f"several jobs at a time: {beside:.2f} times the speed of one after the other")
    print(f"what is chosen by default: {default:.2f} of the speed of the better")
    machine.write("local_sweep", found)


if __name__ == "__main__":
    main()
