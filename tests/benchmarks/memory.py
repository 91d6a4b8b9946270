"""How much more memory does a run with stored targets need at its peak than the same student on labels alone?

Whole runs of the command line, with the teacher of the experiment and with one of BERT's base size; the store is there
before. The peak is the resident memory of the process as the kernel counted it, mapped files included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks import machine, setting
from tests.benchmarks.option import on, options
from tests.benchmarks.ratio import interleaved, spread

BASE = ["model=bert_tiny", "model.hidden_size=768", "model.layers=12", "model.heads=12", "model.intermediate_size=3072"]


def base_teacher(rows: int) -> Path:
    """A BERT of base size that was trained for one step: memory does not ask what it learned."""
    outputs = machine.results() / "base-teacher"
    finished = sorted(outputs.glob("finetune/*/done.json"))
    if not finished:
        words = [
            f"experiment={setting.EXPERIMENT}_teacher",
            *BASE,
            "trainer.max_steps=1",
            "trainer.limit_val_batches=1",
        ]
        words += ["trainer.limit_test_batches=1", f"datamodule.train_rows={rows}", f"outputs={outputs}", "logger=none"]
        machine.alone(machine.kdlab("finetune", *words))
        finished = sorted(outputs.glob("finetune/*/done.json"))
    return finished[0].parent


def measure(
    rows: int, repeats: int, student: str = "bert_tiny", device: str = "cpu", base: bool = True
) -> dict[str, Any]:
    outputs = machine.results() / "memory"
    teachers = {"minilm_l6": setting.teacher()} | ({"bert_base": base_teacher(rows)} if base else {})
    kinds = ["labels", *teachers]
    peaks: dict[str, list[float]] = {name: [] for name in kinds}

    def peak(name: str) -> float:
        teacher = teachers.get(name, teachers["minilm_l6"])
        words = setting.common(teacher, rows, epochs=1) + setting.STUDENTS[student] + on(device)
        words += [f"outputs={outputs}", "rerun=true", f"loss={'ce' if name == 'labels' else 'kd'}"]
        return machine.alone(machine.kdlab("distill", *words)).peak_mb

    for name in teachers:
        peak(name)  # builds the store
    for _, name in interleaved(kinds, repeats):
        peaks[name].append(peak(name))
    labels = spread(peaks["labels"]).median
    return {
        "rows": rows,
        "student": student,
        "peak_mb": {name: spread(values).plain() for name, values in peaks.items()},
        "more_than_labels_mb": {name: spread([one - labels for one in peaks[name]]).plain() for name in teachers},
    }


def main() -> None:
    args = options(__doc__, rows=512)
    found = measure(args.rows, args.repeats, args.student, args.device)
    for name, more in found["more_than_labels_mb"].items():
        print(f"stored targets of {name}: {more['median']:+.0f} MB against labels alone (aim: at most 100)")
    machine.write("memory", found)


if __name__ == "__main__":
    main()
