"""Whether more of a metric is better, where a run that is read does not declare it: kdlab's own metrics then do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from kdlab.config import conf
from kdlab.direction import (
    COLUMNS,
    COSTS,
    PRIMARIES,
    RUN,
    RUN_COSTS,
    SHARES,
    Directions,
    declaration,
    declared_for,
)
from kdlab.error import UserError

if TYPE_CHECKING:
    from kdlab.metric.evaluators import Evaluators

LABELS = [str(number) for number in range(10)]  # enough for what is measured of many classes alone


def higher_is_better(name: str, recorded: Directions | None = None) -> bool | None:
    """Whether more of a logged value is better; None where that is neither, or not known.

    Args:
        name: as it is logged: ``val/accuracy``, ``best/val/loss``, ``teacher/perf/latency_ms``, ``train/loss/kl``.
        recorded: the declarations of the runs that it was measured in, see :func:`kdlab.direction.gathered`; what
            they lack is answered by the metrics that kdlab itself has.

    Example:
        >>> higher_is_better("test/fidelity/kl", {"fidelity/kl": False})
        False
        >>> higher_is_better("best/val/mae", {"mae": False})
        False
    """
    if recorded and declaration(name, recorded) is not None:
        return declared_for(name, recorded)
    return declared_for(name, installed())  # which imports torch


@cache
def installed() -> dict[str, bool | None]:
    """The declarations of everything that kdlab itself logs."""
    from kdlab.callback.checkpoint import Checkpoint
    from kdlab.callback.speed import Speed
    from kdlab.config.build import evaluators
    from kdlab.metric import majority
    from kdlab.metric.generation import directions as of_texts
    from kdlab.module.base import TrainingRule
    from kdlab.task.causal_lm import CausalLM
    from kdlab.task.regression import Regression
    from kdlab.task.sequence_classification import SequenceClassification
    from kdlab.teacher.base import Teacher

    found: dict[str, bool | None] = dict(majority.HIGHER_IS_BETTER)
    for owner in (Checkpoint, Speed, TrainingRule, Teacher):
        found |= owner.higher_is_better
    for file in sorted((conf() / "metric").glob("*.yaml")):
        for task in (SequenceClassification(), CausalLM(), Regression()):
            with suppress(UserError):  # for another task, or of a library that is missing
                found |= evaluators(OmegaConf.load(file), task, LABELS).higher_is_better  # type: ignore[arg-type]
    return found | of_texts() | RUN


def primaries(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The primary metrics of runs without their split, that of the first evaluator first.

    Args:
        records: what each ``done.json`` holds.
    """
    return _recorded(records, PRIMARIES)


def columns(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The metrics of a split, without it, that tables of runs have columns for."""
    return _recorded(records, COLUMNS)


def shares(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The metrics, without their split, that are a mean of 0 and 1 over rows."""
    return _recorded(records, SHARES)


def costs(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """By the name of each metric that quality may be drawn against, its kind: those of :mod:`kdlab.direction`."""
    found: dict[str, str] = {}
    for done in _finished(records):
        own = done.get(COSTS)
        found |= {str(name): str(kind) for name, kind in own.items()} if isinstance(own, Mapping) else _own_costs()
    return found | RUN_COSTS


def _finished(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What there is of runs that ended; an empty record, for which kdlab's own metrics answer, where none did."""
    return [done for done in records if done] or [{}]


@cache
def _own_costs() -> dict[str, str]:
    from kdlab.callback.speed import Speed

    own = _evaluators().named[COSTS]
    assert isinstance(own, dict)
    return own | Speed.costs


def _recorded(records: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    """What runs recorded under a key, each name once; for those of before there were records, what kdlab's own say."""
    found: dict[str, None] = {}
    for done in _finished(records):
        names = done.get(key)
        if not isinstance(names, list):
            kept = [str(done["metric"]).removeprefix("val/")] if key == PRIMARIES and done.get("metric") else []
            names = [*kept, *_evaluators().named[key]]
        found |= dict.fromkeys(str(name) for name in names)
    return list(found)


@cache
def _evaluators() -> Evaluators:
    """Those that a run has where nothing else is chosen."""
    from kdlab.metric.classification import classification
    from kdlab.metric.cost import Cost
    from kdlab.metric.evaluators import Evaluators
    from kdlab.metric.fidelity import Fidelity
    from kdlab.metric.scores import Scores

    return Evaluators({"classification": Scores(classification(["no", "yes"])), "fidelity": Fidelity(), "cost": Cost()})
