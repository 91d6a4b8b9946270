"""Finds the family of a model, and the transformers class that loads models for a task."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from kdlab.error import UserError
from kdlab.model.family.base import Family
from kdlab.model.family.plain import Plain


def family(model: nn.Module) -> Family:
    """The family of a model: the one that it declares, else the one that claims it, else :class:`Plain`.

    Raises:
        UserError: the model's attribute ``family`` is something else.

    Example:
        >>> type(family(nn.Linear(2, 3))).__name__
        'Plain'
    """
    declared = getattr(model, "family", None)
    if declared is not None:
        found = declared() if isinstance(declared, type) else declared
        if not isinstance(found, Family):
            raise UserError(
                f"{type(model).__name__}.family is a {type(found).__name__}, but must be a kdlab.model.family.base."
                "Family, such as kdlab.model.family.stack.Stack('layers')"
            )
        return found
    claiming = [one for one in known() if one.claims(model)]
    return max(claiming, key=lambda one: one.rank)() if claiming else Plain()


def known() -> list[type[Family]]:
    """All families that are imported, those of this folder among them."""
    _load()
    return list(_below(Family))


def auto(task: str) -> Any:
    """The transformers class that loads models for a kind of task.

    Raises:
        UserError: no family has models for it.
    """
    names = {kind: name for one in known() for kind, name in one.auto.items()}
    if task not in names:
        raise UserError(f"no family of models is for the task {task}: choose one of {', '.join(sorted(names))}")
    return getattr(import_module("transformers"), names[task])


def task_of(architecture: str) -> str:
    """The kind of task that a transformers class is for, by its name; ``sequence_classification`` where none fits.

    Example:
        >>> task_of("GPT2LMHeadModel"), task_of("BertForSequenceClassification")
        ('causal_lm', 'sequence_classification')
    """
    endings = {ending: kind for one in known() for ending, kind in one.architectures.items()}
    return next((kind for ending, kind in endings.items() if architecture.endswith(ending)), "sequence_classification")


@cache
def _load() -> None:
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem != "__init__":
            import_module(f"{__package__}.{path.stem}")


def _below(parent: type[Family]) -> Iterator[type[Family]]:
    for one in parent.__subclasses__():
        yield one
        yield from _below(one)
