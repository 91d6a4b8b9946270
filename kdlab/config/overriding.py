"""Lets an option choose options of other groups: ``task=causal_lm`` also chooses the metric and the models that fit it.

Hydra's own form for this is an ``override`` in the defaults list of the option. A choice on the command line or in an
experiment wins over it. Hydra refuses an override of a group that the verb lacks, such as ``model@teacher.model`` in
``kdlab finetune``; in an option, which several verbs share, it is left out instead.
"""

from __future__ import annotations

from functools import wraps

from hydra._internal.defaults_list import Overrides

SETTING = ("experiment/", "debug/", "stages/", "sweep/")  # for one verb: what they override must be there
_refuse = Overrides.ensure_overrides_used


@wraps(_refuse)
def _ensure_overrides_used(self: Overrides) -> None:
    for meta in self.override_metadata.values():
        option = meta.containing_config_path or ""
        if "/" in option and not option.startswith(SETTING):
            meta.used = True
    _refuse(self)


Overrides.ensure_overrides_used = _ensure_overrides_used  # type: ignore[method-assign]
