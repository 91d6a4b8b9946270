"""Settings of an option that a list does not choose, such as ``metric.generation.rows`` with ``metric=[causal_lm]``."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from kdlab.config.near import child, value_at
from kdlab.error import UserError


def check(cfg: DictConfig, groups: Sequence[str]) -> None:
    """Look at the groups whose options are chosen as a list and stand under names.

    Args:
        groups: of these, such as ``metric``.

    Raises:
        UserError: there are settings under a name that no chosen option has.
    """
    for group in groups:
        node = value_at(cfg, group)
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or "_target_" in node:
            continue
        for name in map(str, node):
            one = child(node, name)
            if isinstance(one, DictConfig) and not one._is_none() and len(one) and "_target_" not in one:
                raise UserError(
                    f"{group}.{name} has settings, but {group}={name} is not chosen: add it to the list, "
                    f"{group}=[…,{name}], or leave the settings out with ~{group}.{name}"
                )
