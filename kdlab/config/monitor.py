"""What decides something by a validation metric, seen in the config before anything is trained: that the metric will
be there, and that no key asks for its worse end."""

from __future__ import annotations

from collections.abc import Iterator

from hydra.utils import get_object
from omegaconf import DictConfig
from torchmetrics import MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from kdlab.config import build, instantiate
from kdlab.config.direction import installed
from kdlab.direction import MODES, PRIMARY, mode
from kdlab.error import UserError
from kdlab.metric.evaluators import Evaluators
from kdlab.metric.scores import Scores
from kdlab.module.mutual import Mutual


def check(cfg: DictConfig) -> None:
    """Look at every ``monitor`` of a job.

    Raises:
        UserError: nothing of that name is measured in validation, or ``mode`` contradicts the metric.
    """
    watchers = list(watching(cfg))
    if not watchers or "metric" not in cfg:
        return
    known, names = directions(cfg), validated(cfg)
    for where, node in watchers:
        followed = primary(cfg) if node.monitor == PRIMARY else node.monitor
        ours = str(node.get("_target_", "")).startswith("kdlab.")  # another's may watch what it logs itself
        if ours and names is not None and followed not in names and not str(followed).startswith("train/loss"):
            raise UserError(
                f"{where}.monitor={node.monitor} is not measured in validation: choose one of "
                + ", ".join([*names, PRIMARY])
                + (", or null for no best.ckpt" if where == "callback.checkpoint" else "")
            )
        if "mode" in node and (ours or node.mode in MODES.values()):
            mode(followed, node.mode, known, f"{where}.mode")


def watching(node: DictConfig, where: str = "") -> Iterator[tuple[str, DictConfig]]:
    """The nodes that follow a metric, by key."""
    for key in node:
        inner = node._get_node(key)
        if isinstance(inner, DictConfig) and not (inner._is_none() or inner._is_missing() or inner._is_interpolation()):
            yield from watching(inner, f"{where}.{key!s}".lstrip("."))
    if "monitor" in node and node.monitor is not None:
        yield where, node


def directions(cfg: DictConfig) -> dict[str, bool | None]:
    """Whether more is better of what a job measures, by name without its split."""
    return installed() | _measured(cfg).higher_is_better


def primary(cfg: DictConfig) -> str:
    """The validation metric that a job is for, where its rows have labels."""
    found = _measured(cfg).primaries()
    return f"val/{found[0]}" if found else "val/loss"


def validated(cfg: DictConfig) -> list[str] | None:
    """What a job measures in validation; None where a metric names its values itself."""
    parts = dict(_measured(cfg).items())
    collections = [one.metrics for one in parts.values() if isinstance(one, Scores)]
    if any(isinstance(one, WrapperMetric | MetricCollection) for metrics in collections for one in metrics.values()):
        return None
    names = [name for one in parts.values() for name in one.higher_is_better] + ["loss"]
    if _taught(cfg) and get_object(cfg.module._target_) is Mutual:
        own = [name for one in parts.values() if not {"teacher"} & set(one.needs) for name in one.higher_is_better]
        peers = cfg.teacher.peers if "peers" in cfg.teacher else ["teacher"]
        names += [f"{peer}/{name}" for peer in peers for name in own]
    return [f"val/{name}" for name in names]


def _measured(cfg: DictConfig) -> Evaluators:
    """The evaluators of a job that measure something in validation."""
    found = build.evaluators(cfg.metric, instantiate.make(cfg.task))
    return found.chosen("val", without=() if _taught(cfg) else ("teacher",))


def _taught(cfg: DictConfig) -> bool:
    """Whether a job's student has a teacher."""
    if "loss" not in cfg:
        return False
    loss = instantiate.make(cfg.loss)
    return bool(loss.terms) and bool(loss.needs_teacher)
