"""kdlab's side of a benchmark: configs composed as its commands compose them, and what the peers are given of it.

Runs in kdlab's environment. The teacher is trained by ``kdlab finetune`` once; rows and first weights of the students
are those that ``kdlab distill`` itself would use, written to files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import machine

EXPERIMENT = "movie_reviews_all"
STUDENTS = {
    "bert_tiny": ["model@student=bert_tiny", "student.layers=2", "optimizer.lr=5e-4"],
    "two_layers": ["student.layers=[0,5]", "optimizer.lr=1e-4"],
}
RATES = {"bert_tiny": 5e-4, "two_layers": 1e-4}


@dataclass(frozen=True)
class Material:
    """What all contenders of a benchmark share.

    Attributes:
        teacher: a model directory.
        students: model directories with first weights, by name.
        data: tokens, labels and splits.
        rows: training rows.
        test_rows: rows of the test split.
    """

    teacher: Path
    students: dict[str, Path]
    data: Path
    rows: int
    test_rows: int


@contextmanager
def composing() -> Iterator[None]:
    """Inside, kdlab's jobs can be composed."""
    from hydra import initialize_config_dir

    import kdlab.config.identity  # noqa: F401  registers the resolver of run ids
    from kdlab.config import conf

    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield


def job(*words: str, command: str = "distill") -> Any:
    """A job of kdlab, composed from its command line; inside :func:`composing`."""
    from kdlab.config.job import composed

    return composed(command, list(words))


def common(teacher: Path | str, rows: int | None = None, epochs: int = 3) -> list[str]:
    """Overrides that all benchmarked distillations share."""
    words = [f"experiment={EXPERIMENT}", f"teacher.run={teacher}", f"trainer.max_epochs={epochs}"]
    return words + ([f"datamodule.train_rows={rows}"] if rows else [])


def teacher() -> Path:
    """The run directory of the fine-tuned MiniLM-L6, trained first where it is missing."""
    outputs = machine.results() / "teacher"
    finished = sorted(outputs.glob("finetune/*/done.json"))
    if not finished:
        print("training the teacher: minutes, once", flush=True)
        words = [f"experiment={EXPERIMENT}_teacher", f"outputs={outputs}", "logger=none"]
        machine.alone(machine.kdlab("finetune", *words))
        finished = sorted(outputs.glob("finetune/*/done.json"))
    return finished[0].parent


def prepared(*words: str, command: str = "distill") -> tuple[Any, Any, Any]:
    """The job, its data and what its command prepares: all but the training. Inside :func:`composing`."""
    import torch

    from kdlab.artifact import select
    from kdlab.fit.job import run_job
    from kdlab.plan import distill, finetune

    made = job(*words, command=command)
    torch.manual_seed(made.cfg.seed)
    data = select.data(made.cfg)
    return made, data, {"distill": distill, "finetune": finetune}[command].prepare(made, data, run_job)


def material(rows: int | None = None, students: Sequence[str] = tuple(STUDENTS)) -> Material:
    """Teacher, students and data on disk; what is there is used as it is.

    Args:
        rows: at most so many training rows, for trying a benchmark; None: all.
    """
    made = teacher()
    folder = machine.results() / "material" / f"{made.name}-{rows or 'all'}"
    needed = [folder / "data" / "meta.json", *[folder / name / "config.json" for name in students]]
    if not all(path.exists() for path in needed):
        with composing():
            for name in students:
                export(folder, name, common(made, rows))
    sizes = {name: len(np.load(folder / "data" / f"{name}.npy")) for name in ("train", "test")}
    where = {name: folder / name for name in students}
    return Material(made / "model", where, folder / "data", sizes["train"], sizes["test"])


def export(folder: Path, student: str, words: Sequence[str]) -> None:
    """Write a student's first weights and the rows as a run of kdlab begins with them."""
    from kdlab.model.save import save

    scratch = f"outputs={folder / 'scratch'}"
    # at alpha 0 no teacher is asked; the student's first weights depend on seed and student alone
    made, data, ready = prepared(*words, *STUDENTS[student], scratch, "loss=ce", "logger=none")
    save(ready.learner.model, data.tokenizer, folder / student)
    place = folder / "data"
    place.mkdir(parents=True, exist_ok=True)
    rows = data.encoded.rows
    np.save(place / "tokens.npy", np.asarray(rows.tokens))
    np.save(place / "offsets.npy", rows.offsets)
    np.save(place / "labels.npy", data.encoded.codes)
    for name, index in data.splits.items():
        np.save(place / f"{name}.npy", index)
    meta = {"pad": data.encoded.rows.pad, "max_length": made.cfg.datamodule.max_length, "fingerprint": data.fingerprint}
    (place / "meta.json").write_text(json.dumps(meta))


if __name__ == "__main__":
    print(material(int(sys.argv[1]) if len(sys.argv) > 1 else None))
