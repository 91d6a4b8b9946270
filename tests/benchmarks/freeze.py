"""How much faster is ``freeze=head`` than ``freeze=none`` from the second epoch on?"""

from __future__ import annotations

from statistics import mean
from typing import Any

from tests.benchmarks import machine, setting
from tests.benchmarks.block import block
from tests.benchmarks.clock import step_seconds
from tests.benchmarks.option import on, options
from tests.benchmarks.ratio import interleaved, ratios, spread

EPOCHS = 3


def measure(rows: int, repeats: int, student: str = "bert_tiny", device: str = "cpu") -> dict[str, Any]:
    shared = setting.common(setting.teacher(), rows, EPOCHS) + setting.STUDENTS[student] + on(device)
    later: dict[str, list[float]] = {"none": [], "head": []}
    first: dict[str, list[float]] = {"none": [], "head": []}
    with setting.composing():
        for _, name in interleaved(list(later), repeats):
            # prepared anew: a second fit of one job could find activations that the first one kept
            epochs = block(f"freeze-{name}", *shared, f"freeze={name}").fit()
            first[name].append(step_seconds(epochs[0]))
            later[name].append(mean(step_seconds(epoch) for epoch in epochs[1:]))
    return {
        "rows": rows,
        "student": student,
        "step_ms": {name: spread([1000 * one for one in values]).plain() for name, values in later.items()},
        "first_epoch_speedup": ratios(first["none"], first["head"]).plain(),
        "speedup": ratios(later["none"], later["head"]).plain(),
    }


def main() -> None:
    args = options(__doc__)
    found = measure(args.rows, args.repeats, args.student, args.device)
    print(
        f"freeze=head: {found['speedup']['median']:.2f} times the speed of freeze=none from the second epoch on (aim 5)"
    )
    machine.write("freeze", found)


if __name__ == "__main__":
    main()
