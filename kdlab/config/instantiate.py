"""From one config node to one object: the only place that calls Hydra's ``instantiate``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf, open_dict

from kdlab.config.check import arguments, written
from kdlab.config.node import no_value
from kdlab.config.signature import signature
from kdlab.error import UserError

Kind = TypeVar("Kind")


def make(node: DictConfig, **given: Any) -> Any:
    """Instantiate a config node; a user's mistake below it comes out as itself."""
    where = node._get_full_key(None) or "config"
    missing = sorted(OmegaConf.missing_keys(node) - {node._get_full_key(name) for name in given})
    if missing:
        raise UserError(no_value(missing[0]))
    _check(node, where)
    try:
        target = instantiate(node, _partial_=True)  # called below: Hydra would turn given dict-like objects into config
        return target if node.get("_partial_") and not given else target(**given)
    except InstantiationException as problem:
        if isinstance(problem.__cause__, UserError):
            raise _located(problem, where) from None
        raise UserError(" ".join(str(problem).split())) from problem
    except (TypeError, ValueError, OverflowError, MisconfigurationException) as problem:
        reason = " ".join(str(problem).split())
        if "MisconfigurationException" in type(problem).__name__ and _lacks_gpu(node):
            reason = f"accelerator={node.accelerator} needs a GPU, and this machine has none: use trainer=cpu"
        raise UserError(f"{where} ({node._target_}): {reason}") from problem


def make_a(kind: type[Kind], node: DictConfig, **given: Any) -> Kind:
    """Instantiate a config node that must give a ``kind``.

    Raises:
        UserError: it gives something else, such as a logger where a task stands.
    """
    found = make(node, **given)
    if not isinstance(found, kind):
        where = node._get_full_key(None) or "config"
        raise UserError(
            f"{where}._target_={node._target_} gives {_described(found)} where a {kind.__name__} is needed: choose an "
            f"option of the group '{where.split('.')[0]}'"
        )
    return found


def _described(found: Any) -> str:
    return f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"


def _lacks_gpu(node: DictConfig) -> bool:
    return node.get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available()


def _check(node: DictConfig, where: str, unmade: bool = False) -> None:
    """The node's values against the signature of its target.

    Args:
        unmade: it is not made afterwards, so that its code is read rather than imported.
    """
    values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    found = signature(str(node._target_)) if unmade else None
    if found is not None:  # importing a logger takes seconds
        plain = {str(key): value for key, value in values.items() if not str(key).startswith("_")}
        written(found.target, found.parameters, found.open, plain, where)
        return
    try:
        target = get_object(node._target_)
    except Exception as problem:
        raise UserError(f"{where}._target_ '{node._target_}' cannot be imported: {problem}") from problem
    arguments(target, {str(key): value for key, value in values.items() if not str(key).startswith("_")}, where)


def factory(node: DictConfig) -> DictConfig:
    """A model's node with nothing but the arguments of what makes it, and so the models inside of it.

    Its ``lr`` is the learning rate that fits it, which an optimizer takes where none is given: no argument.
    """
    bare = node.copy()
    with open_dict(bare):
        if "_target_" in bare and "lr" in bare and "lr" not in inspect.signature(target_of(bare)).parameters:
            bare.pop("lr")
        for name, inner in node.items_ex(resolve=False):
            if isinstance(inner, DictConfig) and "_target_" in inner:
                bare[name] = factory(inner)
    return bare


def target_of(node: DictConfig) -> Any:
    try:
        return get_object(node._target_)
    except Exception as problem:
        raise UserError(f"model target '{node._target_}' cannot be imported: {problem}") from problem


def bind(node: DictConfig, where: str) -> None:
    """Check a node, and the nodes in it, against the signatures of what they configure, without making anything.

    Raises:
        UserError: a value that is missing, an argument that is not there, or a word where only a number can stand.
    """
    missing = sorted(str(name) for name in OmegaConf.missing_keys(node))
    if missing:
        raise UserError(no_value(missing[0]))
    if "_target_" in node:
        _check(node, where, unmade=True)
    for name in node:
        if isinstance(node[name], DictConfig):
            bind(node[name], f"{where}.{name!s}")


def _located(problem: InstantiationException, where: str) -> UserError:
    """A user's mistake in a node inside of ``where``, with the place of that node."""
    found = re.search(r"full_key: (\S+)", str(problem))
    place = found[1] if found else where
    mistake = str(problem.__cause__)
    return UserError(mistake if mistake.startswith(place) or place == where else f"{place}: {mistake}")


def takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(one.kind == inspect.Parameter.VAR_KEYWORD for one in parameters.values())


def accelerated(node: DictConfig) -> None:
    """Refuse a trainer that asks for a GPU where there is none, before data is read or a teacher is trained."""
    if _lacks_gpu(node):
        raise UserError(
            f"trainer.accelerator={node.accelerator} needs a GPU, and torch finds none on this machine: use trainer=cpu"
        )


def several(nodes: DictConfig | None, **given: Any) -> list[Any]:
    """Every object of a mapping name -> node (callbacks, loggers), each given the arguments that its signature has."""
    objects = []
    for node in (nodes or {}).values():
        if node is None:
            continue
        accepted = inspect.signature(get_object(node._target_)).parameters
        objects.append(make(node, **{name: value for name, value in given.items() if name in accepted}))
    return objects
