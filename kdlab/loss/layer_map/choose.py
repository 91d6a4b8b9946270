"""From what a user writes to a layer map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdlab.error import UserError
from kdlab.loss.layer_map.attention import Attention
from kdlab.loss.layer_map.base import LayerMap
from kdlab.loss.layer_map.emd import EMD
from kdlab.loss.layer_map.fixed import NAMED, Explicit, Named

LEARNED: dict[str, type[LayerMap]] = {"emd": EMD, "attention": Attention}


def choose(choice: str | Sequence[Any] | LayerMap) -> LayerMap:
    """The map that ``choice`` names.

    Args:
        choice: ``top``, ``last``, ``skip``, ``uniform``, ``emd`` or ``attention``; one teacher layer for each student
            layer from the bottom, such as ``[1, 3]``; pairs ``[[student, teacher], …]``; or a map with settings of
            its own, such as ``{_target_: kdlab.loss.layer_map.emd.EMD, temperature: 1}``.

    Raises:
        UserError: anything else.
    """
    if isinstance(choice, LayerMap):
        return choice
    if isinstance(choice, str):
        if choice in NAMED:
            return Named(choice)
        if choice in LEARNED:
            return LEARNED[choice]()
    elif isinstance(choice, Sequence) and len(choice):
        listed: list[Any] = list(choice)
        if all(_layer(layer) for layer in listed):
            return Explicit(list(enumerate(listed)), bottom_up=True)
        if all(isinstance(pair, Sequence) and len(pair) == 2 and all(map(_layer, pair)) for pair in listed):
            return Explicit([(i, j) for i, j in listed])
    raise UserError(
        f"layer_map is {choice!r}, but must be one of {', '.join([*NAMED, *LEARNED])}, or a list with one teacher "
        "layer for each student layer, such as [1,3], or pairs of layers, such as [[0,1],[-1,-1]]."
    )


def _layer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
