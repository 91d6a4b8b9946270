"""Names that a mistyped name may have meant."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig

from kdlab.config.identity import MODELS


def near(word: str, known: Collection[str], most: int = 2) -> list[str]:
    """The known names that are most like a word; none where none is.

    Example:
        >>> near("destill", ["finetune", "distill", "evaluate"])
        ['distill']
    """
    return get_close_matches(word, list(known), n=most, cutoff=0.6)


def near_keys(key: str, known: Iterable[str], most: int = 2) -> list[str]:
    """The keys that a mistyped key may have meant: those that end like it, else those with a name like it.

    Example:
        >>> near_keys("lr", ["optimizer.lr", "seed"]), near_keys("epochs", ["trainer.max_epochs", "seed"])
        (['optimizer.lr'], ['trainer.max_epochs'])
        >>> near_keys("datamodule.max_epochs", ["trainer.max_epochs", "datamodule.max_length"])
        ['trainer.max_epochs']
    """
    keys = sorted((one for one in known if not recommended(one)), key=lambda one: (one.count("."), one))
    last = {one: one.rpartition(".")[2] for one in keys}
    parent, _, wanted = key.rpartition(".")
    beside = [one for one in keys if parent and one.rpartition(".")[0] == parent]
    same = [one for one in keys if last[one] == wanted]
    if found := get_close_matches(wanted, [last[one] for one in beside], n=most, cutoff=0.8 if same else 0.6):
        return [f"{parent}.{name}" for name in found]
    if same:
        return [one for one in same if one.count(".") == same[0].count(".")][:most]
    if found := near(wanted, list(dict.fromkeys(last.values())), most):
        return [next(one for one in keys if last[one] == name) for name in found]
    return [one for one in keys if wanted in last[one].split("_")][:most]


def recommended(key: str) -> bool:
    """Whether a key is a model's ``lr``, which only recommends one for ``optimizer.lr``."""
    parent, _, name = key.rpartition(".")
    return name == "lr" and parent.rpartition(".")[2] in MODELS


def hint(found: Collection[str]) -> str:
    """ " Did you mean …?", or nothing.

    Example:
        >>> print("There is no setting 'lr'." + hint(["optimizer.lr"]))
        There is no setting 'lr'. Did you mean optimizer.lr?
    """
    return f" Did you mean {' or '.join(found)}?" if found else ""


def child(node: DictConfig, key: Any) -> Any:
    """The node of a key as it is written, missing or not; None where there is no such key."""
    return node._get_node(key, validate_access=False)


def leaves(cfg: DictConfig, path: str = "") -> Iterator[str]:
    """Every key of a config, with dots, but Hydra's own."""
    for key in cfg:
        name, node = f"{path}{key!s}", child(cfg, key)
        if str(key).startswith("_") or name == "hydra":
            continue
        yield name
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            yield from leaves(node, f"{name}.")


def value_at(cfg: DictConfig, key: str) -> Any:
    """The node at a key, as it is written; None where there is none."""
    node: Any = cfg
    for name in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or node._is_interpolation():
            return None
        node = child(node, name)
    return node
