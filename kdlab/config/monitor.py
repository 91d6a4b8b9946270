"""What decides something by a validation metric, seen in the config before anything is trained: that the metric will
be there, and that nobody wants the worse end of it."""

from __future__ import annotations

from collections.abc import Iterator

from hydra.utils import get_object
from omegaconf import DictConfig
from torchmetrics import MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from kdlab.config import build
from kdlab.config.direction import installed
from kdlab.direction import MODES, declared, mode
from kdlab.error import UserError
from kdlab.metric.fidelity import fidelity
from kdlab.module.mutual import Mutual
from kdlab.outcome import Categorical


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
        ours = str(node.get("_target_", "")).startswith("kdlab.")  # another's may watch what it logs itself
        if ours and names is not None and node.monitor not in names and not str(node.monitor).startswith("train/loss"):
            raise UserError(
                f"{where}.monitor={node.monitor} is not measured in validation: choose one of {', '.join(names)}"
                + (", or null for no best.ckpt" if where == "callback.checkpoint" else "")
            )
        if "mode" in node and (ours or node.mode in MODES.values()):
            mode(node.monitor, node.mode, known, f"{where}.mode")


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
    return installed() | declared(_metric(cfg))


def validated(cfg: DictConfig) -> list[str] | None:
    """What a job measures in validation; None where a metric names its values itself."""
    metrics = _metric(cfg)
    if any(isinstance(metric, WrapperMetric | MetricCollection) for metric in metrics.values()):
        return None
    own = list(declared(metrics))
    names = [*own, "loss"]
    if "loss" in cfg:
        loss = build.make(cfg.loss)
        if loss.terms and loss.needs_teacher:
            names += list(declared(fidelity(Categorical())))
            if get_object(cfg.module._target_) is Mutual:
                peers = cfg.teacher.peers if "peers" in cfg.teacher else ["teacher"]
                names += [f"{peer}/{name}" for peer in peers for name in own]
    return [f"val/{name}" for name in names]


def _metric(cfg: DictConfig) -> MetricCollection:
    found: MetricCollection = build.metric(cfg.metric, build.make(cfg.task))
    return found
