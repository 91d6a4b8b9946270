"""How does the cost of a sweep grow with its runs, its epochs, the length of texts, the teacher's size, the vocabulary?

Whole commands into an outputs folder that holds nothing but the teacher. One thing grows at a time; the last column is
what one more unit costs, from the smallest to the largest.

    python -m tests.benchmarks.growth --axis runs epochs
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import machine, setting
from tests.benchmarks.ratio import interleaved, spread

AXES: dict[str, list[int]] = {
    "runs": [1, 4, 12, 24],
    "epochs": [1, 2, 4, 8],
    "length": [16, 64, 128, 256],  # tokens of every text
    "teacher": [128, 256, 512, 768],  # hidden size; six layers
    "vocabulary": [1000, 4000, 16000],
}


def texts(folder: Path, words_a_text: int, vocabulary: int, rows: int) -> Path:
    """A csv of made-up texts of one length, every word of the vocabulary in it; the label is in one of the words."""
    path = folder / f"texts-{words_a_text}-{vocabulary}-{rows}.csv"
    if not path.exists():
        random = np.random.default_rng(0)
        lines = ["text,label"]
        words = [_word(number) for number in range(vocabulary)]
        drawn = np.resize(random.permutation(vocabulary), (rows, words_a_text))
        for number, row in enumerate(drawn):
            label = number % 2
            lines.append(" ".join([("bad", "good")[label], *[words[place] for place in row]]) + f",{label}")
        path.write_text("\n".join(lines))
    return path


def _word(number: int) -> str:
    """A word of letters for a number; different numbers, different words."""
    letters = ""
    for _ in range(4):
        number, rest = divmod(number, 20)
        letters += "bcdfghjklmnpqrstvwxz"[rest] + "aeiou"[rest % 5]
    return letters


def command(axis: str, value: int, place: Path, rows: int) -> list[str]:
    """The command of one point; a teacher that it needs is trained before, for a step."""
    base = {"runs": 1, "epochs": 1, "length": 32, "teacher": 256, "vocabulary": 4000} | {axis: value}
    temperatures = ",".join(f"{1 + step / 4:g}" for step in range(base["runs"]))
    grid = ["-m", f"loss.temperature={temperatures}"] if base["runs"] > 1 else []
    if axis in ("runs", "epochs"):
        words = setting.common(setting.teacher(), rows, base["epochs"]) + setting.STUDENTS["bert_tiny"]
        return ["distill", *grid, *words]
    made = texts(place, base["length"] - 3, base["vocabulary"] - 200, rows)  # [CLS], the label's word, [SEP]
    data = [f"datamodule.path={made}", f"datamodule.max_length={base['length']}", "datamodule=table"]
    tokenizer = f"train:wordpiece:{base['vocabulary']}"
    heads = base["teacher"] // 64
    size = [f"model.hidden_size={base['teacher']}", "model.layers=6", f"model.heads={heads}"]
    size += [f"model.intermediate_size={4 * base['teacher']}", f"model.tokenizer={tokenizer}"]
    recipe = ["finetune", *data, "model=bert_tiny", *size, "trainer.max_steps=1", "logger=none"]
    taught = place / f"teacher-{axis}-{value}"
    if not list(taught.glob("finetune/*/done.json")):
        machine.alone(machine.kdlab(*recipe, f"outputs={taught}", "trainer.limit_val_batches=1"))
    (finished,) = taught.glob("finetune/*/done.json")
    return [
        "distill", *data, f"teacher.run={finished.parent}", "model@teacher.model=bert_tiny", "model@student=bert_tiny",
        f"student.tokenizer={tokenizer}", f"teacher.model.tokenizer={tokenizer}", "trainer.max_epochs=1",
    ]  # fmt: skip


def measure(axes: Sequence[str], rows: int, repeats: int, values: dict[str, list[int]] = AXES) -> dict[str, Any]:
    place = machine.results() / "growth"
    place.mkdir(exist_ok=True)
    found = {}
    for axis in axes:
        points = {value: command(axis, value, place, rows) for value in values[axis]}
        seconds: dict[int, list[float]] = {value: [] for value in points}
        for _, value in interleaved(list(points), repeats):
            outputs = place / "fresh"
            shutil.rmtree(outputs, ignore_errors=True)
            seconds[value].append(machine.alone(machine.kdlab(*points[value], f"outputs={outputs}")).seconds)
        medians = {value: spread(of).median for value, of in seconds.items()}
        low, high = min(medians), max(medians)
        found[axis] = {
            "seconds": {str(value): spread(of).plain() for value, of in seconds.items()},
            "seconds_a_unit": (medians[high] - medians[low]) / (high - low) if high > low else None,
        }
    return {"rows": rows, "axes": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--axis", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    found = measure(args.axis, args.rows, args.repeats)
    for axis, one in found["axes"].items():
        series = ", ".join(f"{value}: {each['median']:.1f} s" for value, each in one["seconds"].items())
        print(f"{axis:<10} {series}; {one['seconds_a_unit']:.3f} s a unit")
    machine.write("growth", found)


if __name__ == "__main__":
    main()
