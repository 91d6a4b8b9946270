"""The config in a run directory: written resolved, read as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdlab.error import UserError
from kdlab.file import check_yaml, text_inside, write_text


def write(path: Path, config: dict[str, Any] | list[str]) -> None:
    """Write plain values as YAML, atomically."""
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(config)))


def read_config(folder: Path) -> DictConfig:
    """The resolved config of a run directory: plain values, of which none is looked up anywhere else.

    Raises:
        UserError: there is none, it is damaged, or it holds interpolations, which could read this user's environment.
    """
    path = folder / "config.yaml"
    try:
        check_yaml(text_inside(path))
        config = OmegaConf.load(path)
    except FileNotFoundError as problem:
        raise UserError(f"{folder} is no run directory: it has no config.yaml") from problem
    except Exception as problem:
        reason = str(problem) if type(problem) is ValueError else type(problem).__name__
        raise UserError(f"{path} cannot be read ({reason}); restore it or delete the run") from problem
    if not isinstance(config, DictConfig) or not config:
        raise UserError(f"{path} holds no config: a mapping was expected; restore it or delete the run")
    _rename(config)
    for key, text in _texts(OmegaConf.to_container(config), ""):
        if "${" in text:
            raise UserError(
                f"{path} has an interpolation at {key}, but a run's config is written resolved, and what is in it is "
                "never looked up: write the value in its place, or delete the run"
            )
    return config


def _rename(config: DictConfig) -> None:
    """Let a config that was stored before code moved name the code where it is now."""
    peft = config.get("peft")
    if isinstance(peft, DictConfig) and str(peft.get("_target_")).startswith("kdlab.peft."):
        peft._target_ = str(peft._target_).replace("kdlab.peft.", "kdlab.transform.", 1)
    metric = config.get("metric")
    if isinstance(metric, DictConfig) and str(metric.get("_target_")).startswith("kdlab.metric."):
        config["metric"] = {str(metric._target_).rpartition(".")[2]: metric}


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in nested values with its place, keys among them."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(str(name), f"{key}.{name}".lstrip("."))
            yield from _texts(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _texts(item, f"{key}[{place}]")
    elif isinstance(value, str):
        yield key, value
