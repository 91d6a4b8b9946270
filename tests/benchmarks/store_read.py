"""What share of a distillation step is reading the teacher's stored targets?"""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks import machine, setting
from tests.benchmarks.block import block
from tests.benchmarks.option import on, options
from tests.benchmarks.ratio import spread


def measure(rows: int, repeats: int, student: str = "bert_tiny", device: str = "cpu") -> dict[str, Any]:
    shared = setting.common(setting.teacher(), rows, epochs=1) + setting.STUDENTS[student] + on(device)
    shares, per_batch = [], []
    with setting.composing():
        whole = block("store-read", *shared)
        teacher = whole.ready.learner.teacher
        read, calls = teacher.read, []

        def timed(task: Any, batch: Any) -> Any:
            begun = time.perf_counter()
            found = read(task, batch)
            calls.append(time.perf_counter() - begun)
            return found

        teacher.read = timed
        for _ in range(repeats):
            calls.clear()
            (ends,) = whole.fit()
            reading = calls[1 : len(ends)]  # the training batches but the first; validation's and test's come later
            shares.append(sum(reading) / (ends[-1] - ends[0]))
            per_batch.append(1e6 * sum(reading) / len(reading))
    return {
        "rows": rows,
        "student": student,
        "share": spread(shares).plain(),
        "microseconds": spread(per_batch).plain(),
    }


def main() -> None:
    args = options(__doc__)
    found = measure(args.rows, args.repeats, args.student, args.device)
    share, each = found["share"]["median"], found["microseconds"]["median"]
    print(f"reading the store: {share:.2%} of a step, {each:.0f} µs (aim 2%)")
    machine.write("store_read", found)


if __name__ == "__main__":
    main()
