"""Learned gains on keys, values and what enters the second map of the feed-forward network."""

from __future__ import annotations

from typing import Any, final

from torch import nn

from kdlab.transform.library import Injected, transposed
from kdlab.transform.place import at


@final
class IA3(Injected):
    """One learned gain a feature, 1 at first; the model's own weights stay.

    Gains multiply what a place gives, but at ``output`` what enters it. Weight decay would pull them towards 0: set
    ``optimizer.weight_decay=0``.

    Args:
        modules: places as in :data:`kdlab.transform.place.PLACES`; the source's are key, value and output.

    Source: Liu et al. 2022, arXiv:2205.05638, section 3.3.
    """

    def config(self, paths: dict[str, nn.Module]) -> Any:
        from peft import IA3Config

        inputs = [path for path in paths if "output" in at(path)]
        return IA3Config(target_modules=list(paths), feedforward_modules=inputs, fan_in_fan_out=transposed(paths))
