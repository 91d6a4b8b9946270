"""`kdlab export`: a finished run's model in a form that runs without kdlab, compared with the original."""

from __future__ import annotations

import os
import platform
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from kdlab.artifact.reread import batches_of, data_of
from kdlab.artifact.trained import Trained, named
from kdlab.config import build, instantiate
from kdlab.config.trust import Trust
from kdlab.datamodule.data import Data
from kdlab.datamodule.target import CLASS
from kdlab.error import UserError
from kdlab.file import put, write_json, write_text
from kdlab.format.base import Format, Run
from kdlab.format.parity import Parity, example_rows, parity
from kdlab.format.readme import readme
from kdlab.format.trace import Example, Logits, axes
from kdlab.model.save import size_bytes
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask

REPORT = "parity.json"
LEAST = 0.999  # share of equal decisions of a model in float32
CLOSE = 1e-2  # largest difference of two of its logits


def main(cfg: DictConfig) -> Path:
    """Write, compare, print the report, and return the folder. Errors: UserError."""
    if OmegaConf.is_missing(cfg, "run"):
        raise UserError("run has no value; give a run id or a run directory: kdlab export run=ID format=onnx")
    form = instantiate.make_a(Format, cfg.format)
    outputs = Path(cfg.outputs)
    subject = named(str(cfg.run), outputs, Trust.of(cfg))
    task = _task(subject)
    form.check(subject.id)
    folder = _folder(cfg, subject, form, outputs)
    stored = subject.trust.read(subject.folder)
    plain: dict[str, Any] = OmegaConf.to_container(stored.datamodule, resolve=True)  # type: ignore[assignment]
    data = data_of(subject, plain, stored, task, outputs)
    task, batches = build.task(stored, data), batches_of(cfg.split, data)
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    fresh.mkdir(parents=True)
    try:
        found = _export(form, subject, task, data, cfg.split, batches, fresh, cfg.repeats)
        _accept(cfg.equal_decisions, form, found)
        if folder.exists():
            shutil.rmtree(folder)
        put(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    found.show(Console(width=100), f"{subject.id} as {_name(form)}")
    for note in form.notes():
        print(note)
    print(f"written to {folder}; README.md has the lines that load it")
    return folder


def _task(subject: Trained) -> Task:
    """The task of a run that gives logits for each row or position.

    Raises:
        UserError: the model is from elsewhere, or writes texts.
    """
    if subject.stored is None:
        raise UserError(
            f"{subject.folder} is no run, so there are no rows to compare an export with: name the run directory, not "
            "its model/ folder"
        )
    task = instantiate.make_a(Task, subject.stored.task)
    if isinstance(task, GenerativeTask):
        raise UserError(
            f"run {subject.id} writes texts token by token with a cache of earlier ones, and one exported pass would "
            f"not write: load {subject.weights} with transformers, or use `kdlab predict`"
        )
    if task.answers != CLASS:
        raise UserError(
            f"run {subject.id} predicts a {task.answers}, and exports are compared by decisions: name a classifier, "
            "or load the run with kdlab"
        )
    return task


def _name(form: Format) -> str:
    return type(form).__module__.rpartition(".")[2]


def _folder(cfg: DictConfig, subject: Trained, form: Format, outputs: Path) -> Path:
    """Where to write.

    Raises:
        UserError: there is something else.
    """
    folder = outputs / "export" / f"{subject.id}-{_name(form)}" if cfg.folder is None else Path(str(cfg.folder))
    if folder.exists() and not (folder / REPORT).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"folder={folder} is there already and holds no export: name another")
    return folder


def _export(
    form: Format, subject: Trained, task: Task, data: Data, split: str, batches: list[Any], folder: Path, repeats: int
) -> Parity:
    """Write all files of an export into a new folder."""
    model = subject.model.eval().cpu().requires_grad_(False)
    mixed = example_rows(data, split)[-1][1]
    names = [name for name in data.processor.inputs if name in mixed.inputs]
    example = Example({name: mixed.inputs[name] for name in names}, axes(data.processor))
    for file in subject.weights.iterdir():
        if file.suffix != ".safetensors" and file.is_file():
            shutil.copy(file, folder)
    print(f"writes {_name(form)}", flush=True)
    files = form.write(model, example, folder)
    sizes = size_bytes(subject.weights), sum(file.stat().st_size for file in files)
    runs = _original(model, names), form.load(folder, names)
    found = parity(task, data, split, batches, runs, sizes, _machine(), repeats)
    write_json(folder / REPORT, {"run": subject.id, "split": split, "format": _name(form)} | found.plain)
    write_text(folder / "README.md", readme(subject.id, form, data.processor, names, task.outcome, found))
    return found


def _original(model: torch.nn.Module, names: list[str]) -> Run:
    logits = Logits(model, names)

    def run(inputs: Any) -> torch.Tensor:
        with torch.inference_mode():
            return logits(*(inputs[name] for name in names))

    return run


def _accept(equal_decisions: float | None, form: Format, found: Parity) -> None:
    """Refuse an export that decides otherwise than the original.

    Raises:
        UserError: how many rows differ.
    """
    least = equal_decisions if equal_decisions is not None else LEAST if form.exact else 0.0
    if found.equal_decisions < least:
        raise UserError(
            f"only {100 * found.equal_decisions:.2f} % of the decisions on {found.rows:,} rows equal those of the "
            f"original, less than equal_decisions={least:g}: nothing was written; choose another format, or lower it"
        )
    worst = max(found.shapes, key=found.shapes.__getitem__)
    if form.exact and found.shapes[worst] > CLOSE:
        raise UserError(
            f"logits of a batch of {worst} differ by {found.shapes[worst]:.2g} from those of the original: nothing was "
            "written; choose another format"
        )


def _machine() -> dict[str, str]:
    """The machine that was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []  # noqa: PTH110
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    wide = [flag for flag in flags if "vnni" in flag or flag in ("avx2", "avx512f", "amx_int8")]
    return {"processor": model or platform.processor(), "instructions": " ".join(wide), "torch": torch.__version__}


def interrupted(words: list[str]) -> str:
    """What the same command does after an interruption."""
    return "begins anew"
