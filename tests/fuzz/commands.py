"""The commands that are killed: tiny models, a table of made-up reviews, and where a chain of attempts may begin."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.fuzz.attempt import Attempt, attempt, left
from tests.fuzz.watch import PHASES

GOOD, BAD = ("good", "great", "fine", "warm", "funny"), ("bad", "dull", "poor", "cold", "weak")
FILLER = ("the", "film", "is", "a", "and", "story", "with", "actors", "this", "very", "plot")
SIZE = ("hidden_size=16", "layers=2", "heads=2", "intermediate_size=32", "tokenizer=train:wordpiece:200")
SHARED = (
    "datamodule=table", "datamodule.batch_size=16", "datamodule.eval_batch_size=4", "trainer.precision=32-true",
    "trainer.log_every_n_steps=1", "callback.checkpoint.every_n_steps=3",
)  # fmt: skip
STUDENT = (
    *(f"{place}=bert_tiny" for place in ("model@student", "model@teacher.model")),
    *(f"{place}.{word}" for place in ("student", "teacher.model") for word in SIZE),
    "freeze=gradual", "+schedule@loss.alpha=linear", "+schedule@loss.temperature=cosine", "loss.temperature.start=4.0",
)  # fmt: skip
TEACHER = ("model=bert_tiny", *(f"model.{word}" for word in SIZE))


@dataclass(frozen=True)
class Command:
    """One command, as it was measured without a kill.

    Attributes:
        words: after ``kdlab``.
        begins: the states in which it was measured: ``empty`` (not even the cache of tokens is there) and ``taught``
            (the teacher is trained). A chain of attempts may begin in these, or ``ready`` (the cache is there alone).
        seconds: by begin and phase, how long each time took that a process was in it.
        operations: by begin and phase, the most file operations that a process did in it.
    """

    name: str
    words: tuple[str, ...]
    begins: tuple[str, ...]
    seconds: dict[str, dict[str, list[float]]]
    operations: dict[str, dict[str, int]]

    @property
    def sweep(self) -> bool:
        return "-m" in self.words


def rows(path: Path, count: int = 96) -> Path:
    """A csv of reviews that single words decide."""
    draw, lines = random.Random(0), ["text,label"]
    for number in range(count):
        words = draw.choices(FILLER, k=draw.randint(3, 9)) + draw.choices((BAD, GOOD)[number % 2], k=2)
        draw.shuffle(words)
        lines.append(f"{' '.join(words)} {number},{('negative', 'positive')[number % 2]}")
    path.write_text("\n".join(lines))
    return path


def commands(folder: Path) -> list[Command]:
    """All commands, each done once from each of its begins in ``folder``, which holds the results from then on."""
    shared = [*SHARED, f"datamodule.path={rows(folder / 'reviews.csv')}", "trainer.max_epochs=3"]
    recipe = ",".join(f"'{word}'" for word in (*shared, *TEACHER))
    student = [*shared, *STUDENT, f"teacher.recipe=[{recipe}]"]
    words = {
        "distill": ("distill", *student, "logger=none"),
        "distill, W&B": ("distill", *student, "logger=wandb"),
        "finetune, low rank": ("finetune", *shared, *TEACHER, "peft=lora", "logger=none"),
        "sweep": ("distill", "-m", "seed=1,2,3", "logger=none", *student),
    }
    for name in ("distill, W&B", "finetune, low rank"):  # which together import what all of them do
        _warm(words[name], folder / "warm" / name)
    return [_measured(name, line, folder) for name, line in words.items()]


def _warm(words: tuple[str, ...], folder: Path) -> None:
    """Import what a command imports, so that attempts have it from their beginning, as forks of this process."""
    folder.mkdir(parents=True)
    os.environ["KDLAB_FUZZ_MODULES"] = str(folder / "modules")
    _whole(words, folder)
    del os.environ["KDLAB_FUZZ_MODULES"]
    for name in (folder / "modules").read_text().split():
        if name not in sys.modules and not name.startswith(("__", "hydra_plugins")):
            try:
                import_module(name)
            except Exception:
                continue  # made by hand while a command ran
    shutil.rmtree(folder)


def _whole(words: tuple[str, ...], folder: Path) -> Attempt:
    done = attempt(words, folder)
    processes = left()
    if done.code != 0 or processes:
        raise RuntimeError(f"not killed, and yet: {done.code} {processes}\n{done.said}")
    return done


def _measured(name: str, words: tuple[str, ...], folder: Path) -> Command:
    begins = ("empty", "taught") if words[0] == "distill" else ("empty",)
    seconds: dict[str, dict[str, list[float]]] = {}
    operations: dict[str, dict[str, int]] = {}
    for begin in begins:
        place = folder / "whole" / name / begin
        prepare(begin, folder / "whole" / name, place)
        done = _whole(words, place)
        spent, most = defaultdict(list), Counter[str]()
        for pid in {event.pid for event in done.events}:
            own = [event for event in done.events if event.pid == pid]
            for event, after in zip(own, [*own[1:], None], strict=True):
                spent[event.phase].append((after.clock if after else done.ended) - event.clock)
            for phase in PHASES:
                most[phase] = max(most[phase], *(event.operations for event in own if event.left == phase), 0, 0)
        seconds[begin], operations[begin] = dict(spent), dict(most)
    return Command(name, words, begins, seconds, operations)


def prepare(begin: str, whole: Path, folder: Path) -> None:
    """Make a folder in which a chain of attempts begins.

    Args:
        whole: the folder with the results of the undisturbed command, by begin.
    """
    folder.mkdir(parents=True)
    if begin != "empty":
        shutil.copytree(whole / "empty/cache", folder / "cache")
    if begin == "taught":
        shutil.copytree(whole / "empty/outputs/finetune", folder / "outputs/finetune")
