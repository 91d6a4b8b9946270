"""Whether more of a metric is better. The metric declares it, the run writes it down, and every reader asks here.

A declaration is True (more is better), False (less is better) or None (neither, as for a step number), under the name
of the metric without its split: ``accuracy``, ``fidelity/kl``, ``perf/latency_ms``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kdlab.error import UserError

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

Directions = Mapping[str, bool | None]
MODES = {True: "max", False: "min"}
RECORD = "higher_is_better"  # the key of done.json with the declarations of a run
PRIMARIES = "primary"  # that with the primary metric of each evaluator; the run is for the first one
COLUMNS = "columns"  # that with the metrics of a split that tables show
SHARES = "share"  # that with the metrics that are a mean of 0 and 1 over rows
COSTS = "cost"  # that with what quality may be drawn against, and of each which of these kinds it is
SIGNATURES = "signature"  # that with how numbers were computed, as the libraries that did it describe it
COUNTED = "counted"  # the same for all models of an architecture
TIMED = "timed"  # of an architecture on a machine, where the best of several measurements is nearest
SPENT = "spent"  # of a single run
PRIMARY = "primary"  # as a monitor: the metric that the run is for, which its first evaluator names
EVERYWHERE: dict[str, bool | None] = {"loss": False, PRIMARY: True}  # where nothing is declared
RUN: dict[str, bool | None] = {"seconds": False, "test/rows": None}  # of a run as a whole
RUN_COSTS = {"seconds": SPENT}


def declared_for(name: str, known: Directions) -> bool | None:
    """Whether more of a logged value is better; None where that is neither, or not declared.

    Args:
        name: as it is logged: ``val/accuracy``, ``best/val/loss``, ``teacher/perf/latency_ms``, ``train/loss/kl``.
        known: the declarations.

    Example:
        >>> declared_for("best/val/mae", {"mae": False})
        False
    """
    found = declaration(name, known)
    return None if found is None else known[found]


def declaration(name: str, known: Directions) -> str | None:
    """The entry of a logged name, which has splits before it and parts of a sum behind it; None: none.

    Example:
        >>> declaration("train/loss/kl", {"loss": False, "kl": False})
        'loss'
    """
    parts = name.split("/")
    for start in range(len(parts)):
        for end in range(len(parts), start, -1):
            if (entry := "/".join(parts[start:end])) in known:
                return entry
    return None


def declared(metrics: Mapping[str, Metric] | MetricCollection) -> dict[str, bool | None]:
    """The directions that the metrics of a collection declare, by their names in it."""
    named = metrics.items(keep_base=True) if hasattr(metrics, "add_metrics") else metrics.items()  # type: ignore[call-arg]
    return {name: getattr(metric, "higher_is_better", None) for name, metric in named}


def gathered(records: Iterable[Mapping[str, Any]]) -> dict[str, bool | None]:
    """The declarations of several runs as one; what they contradict each other in has no direction.

    Args:
        records: the content of each ``done.json``; runs of before the declarations, and damaged ones, add nothing.

    Example:
        >>> gathered([{"higher_is_better": {"mae": False}}, {"state": "finished"}])
        {'mae': False}
    """
    found: dict[str, bool | None] = {}
    for done in records:
        own = done.get(RECORD)
        for name, value in own.items() if isinstance(own, Mapping) else ():
            if value is None or isinstance(value, bool):
                found[name] = value if found.get(name, value) is value else None
    return found


def mode(monitor: str, given: str | None, directions: Directions, where: str = "mode") -> str:
    """``max`` or ``min`` for a metric that decides something.

    Args:
        given: the user's choice; None: what the metric declares.
        directions: the declarations.
        where: its config key, for the message.

    Raises:
        UserError: it contradicts the metric, is no such word, or nothing is declared.

    Example:
        >>> mode("val/loss", None, {"loss": False})
        'min'
    """
    if given not in (None, "max", "min"):
        raise UserError(f"{where}={given} is unknown: choose max or min, or null for the direction of the metric.")
    declares = declaration(monitor, directions) is not None
    more = declared_for(monitor, directions if declares else EVERYWHERE)
    if given is None and more is None:
        raise UserError(
            f"{where} is null, but {monitor} does not declare whether more is better: set it to max or min."
        )
    if given is not None and more is not None and given != MODES[more]:
        wanted = "more" if more else "less"
        raise UserError(f"{where}={given}, but {wanted} of {monitor} is better: set it to {MODES[more]} or null.")
    return given or MODES[bool(more)]
