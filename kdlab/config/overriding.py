"""Lets an option choose options of other groups: ``task=causal_lm`` also chooses the metric and the models that fit it.

Hydra's own form for this is an ``override`` in the defaults list of the option. A choice on the command line or in an
experiment wins over it. Hydra refuses an override of a group that the verb lacks, such as ``model@teacher.model`` in
``kdlab finetune``; in an option, which several verbs share, it is left out instead.

A verb's plain key may have the name of a group of another verb: ``format=csv`` is a value in ``kdlab runs``, and
``format=onnx`` an option in ``kdlab export``. Hydra knows the groups of all verbs, and would refuse the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

from hydra._internal.defaults_list import Overrides
from hydra.core.override_parser.types import Override

SETTING = ("experiment/", "debug/", "stages/", "sweep/")  # for one verb: what they override must be there
_refuse = Overrides.ensure_overrides_used
_begin = Overrides.__init__


@wraps(_begin)
def _remember(self: Overrides, repo: Any, overrides_list: Sequence[Override]) -> None:
    _begin(self, repo, list(overrides_list))
    chosen = [one for one in overrides_list if repo.group_exists(one.key_or_group)]
    self.given = {one.get_key_element(): one for one in chosen}  # type: ignore[attr-defined]


@wraps(_refuse)
def _ensure_overrides_used(self: Overrides) -> None:
    for meta in self.override_metadata.values():
        option = meta.containing_config_path or ""
        if "/" in option and not option.startswith(SETTING):
            meta.used = True
    for key, meta in list(self.override_metadata.items()):
        if meta.external_override and not meta.used and key not in self.known_choices and "@" not in key:
            self.config_overrides.append(self.given[key])  # type: ignore[attr-defined]
            meta.used = True
    _refuse(self)


Overrides.__init__ = _remember  # type: ignore[method-assign]
Overrides.ensure_overrides_used = _ensure_overrides_used  # type: ignore[method-assign]
