"""A teacher that compares texts with descriptions of the classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from torch import nn

from kdlab.batch import Batch
from kdlab.datamodule.base import TextData
from kdlab.datamodule.processor.text import Text
from kdlab.datamodule.tokenizer import load
from kdlab.error import UserError
from kdlab.model.pretrained import resolve
from kdlab.model.save import weights_sha256
from kdlab.model.zero_shot import cosine, entailment
from kdlab.output import Output
from kdlab.schedule.base import number
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher
from kdlab.teacher.cached import Cached
from kdlab.teacher.retokenized import Retokenized
from kdlab.value import Count, Positive

KINDS = ("cosine", "entailment")


@final
class ZeroShot(Teacher):
    """Classifies texts by descriptions of the classes, without labels and without training. Its outputs are stored.

    Args:
        task, data, taps, store: as for any stored teacher.
        path: a text encoder (``by=cosine``) or an NLI model (``by=entailment``).
        descriptions: for each label a text, or for ``cosine`` a list of texts; None: the labels' names.
        by: ``cosine``: the cosine between text and description; ``entailment``: whether the text entails it.
        template: a text with ``{}`` where a description is put.
        temperature: > 0; the logits are divided by it.
        download: whether models that are not in the cache may be downloaded.
        tokens_per_batch: the number of tokens in a batch of the teacher pass.
    """

    reads_new_rows = False
    needs_classes = True

    def __init__(
        self,
        task: Task,
        data: TextData,
        taps: Collection[str],
        store: Path,
        path: str,
        descriptions: Mapping[str, str | Sequence[str]] | None = None,
        by: Literal["cosine", "entailment"] = "cosine",
        template: str = "{}",
        temperature: Positive = 0.05,
        download: bool = False,
        tokens_per_batch: Count = 4096,
    ) -> None:
        if by not in KINDS:
            raise UserError(f"teacher.by is '{by}', but must be one of {', '.join(KINDS)}")
        if number(temperature, "teacher.temperature") <= 0:
            raise UserError(f"teacher.temperature is {temperature:g}, but must be above 0")
        texts = described(descriptions, data.labels, template)
        folder = resolve(path, download)
        tokenizer = load(path, [], download)
        model: nn.Module
        if by == "cosine":
            model = cosine(folder, texts, tokenizer, temperature, download)
        else:
            if several := [label for label, each in zip(data.labels, texts, strict=True) if len(each) > 1]:
                raise UserError(
                    f"teacher.descriptions.{several[0]} has several texts, but with teacher.by=entailment each class "
                    "has one: choose it, or teacher.by=cosine"
                )
            model = entailment(folder, [each[0] for each in texts], tokenizer, temperature, download)
        view = data.retokenized(Text(tokenizer, data.max_length))
        made = Made(model, weights_sha256(model), f"zero_shot {path}")
        self.teacher = Retokenized(Cached(made, task, view, (), store, tokens_per_batch), view)
        self.seconds = self.teacher.seconds

    @classmethod
    def accept(cls, taps: Collection[str]) -> None:
        if taps:
            raise UserError(f"teacher=zero_shot offers logits only, and no '{min(taps)}'; leave this term out")

    def read(self, task: Task, batch: Batch) -> Output:
        return self.teacher.read(task, batch)

    def widths(self) -> Mapping[str, int]:
        return {}


@dataclass(frozen=True)
class Made:
    """A model in memory with the attributes of a saved one."""

    model: nn.Module
    fingerprint: str
    id: str


def described(
    descriptions: Mapping[str, str | Sequence[str]] | None, labels: Sequence[str], template: str
) -> list[list[str]]:
    """The texts that describe each label, in the order of the labels.

    Raises:
        UserError: a label without a description, a description of no label, or a template without ``{}``.

    Example:
        >>> described({"good": ["fine", "great"], "bad": "poor"}, ["bad", "good"], "It was {}.")
        [['It was poor.'], ['It was fine.', 'It was great.']]
    """
    if "{}" not in template:
        raise UserError(f"teacher.template is '{template}', but must have {{}} where the description comes")
    given = {label: label for label in labels} if descriptions is None else dict(descriptions)
    if set(given) != set(labels):
        raise UserError(
            f"teacher.descriptions names {', '.join(map(str, given)) or 'nothing'}, but the labels are "
            f"{', '.join(labels)}: describe each of them"
        )
    several = {label: [text] if isinstance(text, str) else list(text) for label, text in given.items()}
    if empty := [label for label, texts in several.items() if not texts]:
        raise UserError(f"teacher.descriptions.{empty[0]} is empty: give a text")
    return [[template.replace("{}", str(text)) for text in several[label]] for label in labels]
