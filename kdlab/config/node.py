"""A node of a composed config, for those who read one without knowing Hydra or OmegaConf."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

Node = DictConfig
Unfit = (HydraException, OmegaConfBaseException)  # what composing a config, or reading a value of it, raises


def as_plain(node: Any, resolve: bool = True) -> Any:
    """The node as dictionaries and lists, with ``???`` where a value is missing; what is no node stays as it is.

    Args:
        resolve: put the values in the place of interpolations.

    Example:
        >>> as_plain(made({"a": 1, "b": "${a}"}))
        {'a': 1, 'b': 1}
    """
    return OmegaConf.to_container(node, resolve=resolve) if OmegaConf.is_config(node) else node


def made(values: Mapping[Any, Any]) -> Node:
    """A node of plain values."""
    return OmegaConf.create(dict(values))


def no_value(key: str) -> str:
    """The sentence about a key that has no value.

    Example:
        >>> no_value("datamodule.path")
        'datamodule.path has no value; give it one on the command line: datamodule.path=VALUE'
    """
    group, _, name = key.rpartition(".")
    if name == "_target_":
        return (
            f"{key} has no value: the chosen option names no class. Write _target_ in its YAML, or choose another with "
            f"{group}=OPTION (`kdlab help {group}` lists them)"
        )
    return f"{key} has no value; give it one on the command line: {key}=VALUE"


def without(node: Node, keys: Iterable[str]) -> Node:
    """A copy of the node, at its place in the config, that lacks some keys."""
    copied = node.copy()
    with open_dict(copied):
        for key in keys:
            copied.pop(key, None)
    return copied


def given(node: Node, key: Any) -> bool:
    """Whether a key is there and has a value.

    Example:
        >>> given(made({"a": "???"}), "a"), given(made({"a": None}), "a")
        (False, True)
    """
    return key in node and not OmegaConf.is_missing(node, key)


def replace(node: Node, key: str, value: Any) -> None:
    """Put a value at a key with dots in it; a mapping is merged into the one that is there."""
    OmegaConf.update(node, key, value)


def arguments(node: Node) -> Mapping[str, inspect.Parameter]:
    """The arguments of what a node configures."""
    return inspect.signature(get_object(node._target_)).parameters
