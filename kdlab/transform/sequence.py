"""The transforms of a run, in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import nn

from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.transform.base import Transform

STORABLE = (torch.Tensor, str, int, float, bool, type(None))


@final
class Transforms:
    """Calls each transform of a run in turn.

    Args:
        parts: key in the config, such as ``peft`` or ``transform.prune``, -> transform; in this order.
    """

    def __init__(self, parts: Mapping[str, Transform] | None = None) -> None:
        self.parts = dict(parts or {})

    def attach(
        self, model: nn.Module, data: Data | None, each: Callable[[str, nn.Module], None] = lambda key, model: None
    ) -> nn.Module:
        """Attach all of them.

        Args:
            each: called with the key of each transform and the model, once it is attached.
        """
        known = {id(parameter) for parameter in model.parameters()}
        added: list[nn.Parameter] = []
        for key, one in self.parts.items():
            model = one.attach(model, data)
            if not one.plain:
                model.tuned_by = type(one).__name__.lower()  # type: ignore[assignment]
            for parameter in added:  # one that freezes all but what it adds means the model, not the others
                parameter.requires_grad_(True)
            added += [one for one in model.parameters() if id(one) not in known and one.requires_grad]
            known |= {id(parameter) for parameter in added}
            each(key, model)
        return model

    def after_step(self, model: nn.Module, progress: float) -> None:
        """After an optimizer step."""
        for one in self.parts.values():
            one.after_step(model, progress)

    def complete(self, progress: float) -> bool:
        """Whether each of them is."""
        return all(one.complete(progress) for one in self.parts.values())

    def finish(self, model: nn.Module) -> nn.Module:
        """The model in the form in which it is saved: the last that was attached comes off first."""
        for one in reversed(self.parts.values()):
            model = one.finish(model)
        return model

    @property
    def unplain(self) -> list[str]:
        """The names of those without which the saved model cannot be read."""
        return [type(one).__name__.lower() for one in self.parts.values() if not one.plain]

    @property
    def keeps_frozen(self) -> bool:
        """Whether layers that do not learn compute the same in every step."""
        return all(one.keeps_frozen for one in self.parts.values())

    def check(self, split: bool, compiled: bool) -> None:
        """Refuse a trainer that a transform does not work with.

        Args:
            split: whether each process has a part of the model only.
            compiled: whether the model is compiled.

        Raises:
            UserError: which one, and what to do.
        """
        for key, one in self.parts.items():
            name = type(one).__name__
            if split and not one.splittable:
                raise UserError(
                    f"{key} ({name}) needs whole weights, of which trainer=fsdp leaves each process a part: use "
                    "trainer=ddp, or leave it out"
                )
            if compiled and not one.compiles:
                raise UserError(f"{key} ({name}) changes a model so that it does not compile: set compile=false")

    def state(self) -> dict[str, dict[str, Any]]:
        """The states that are not empty, by key.

        Raises:
            UserError: one holds what a checkpoint cannot.
        """
        found = {key: state for key, one in self.parts.items() if (state := one.state())}
        for key, state in found.items():
            if (kind := _unstorable(state)) is not None:
                raise UserError(
                    f"the state() of {key} ({type(self.parts[key]).__name__}) holds a {kind}, which no checkpoint "
                    "keeps: return tensors, numbers, strings, and lists and mappings of these"
                )
        return found

    def load_state(self, states: Mapping[str, Mapping[str, Any]], device: torch.device) -> None:
        """Take up what :meth:`state` returned, on ``device``."""
        for key, state in states.items():
            self.parts[key].load_state(_moved(state, device))


def _unstorable(value: Any) -> str | None:
    """The type of a first value that is no plain one; None where all are."""
    if isinstance(value, Mapping | list | tuple):
        inner = [*value, *value.values()] if isinstance(value, Mapping) else value
        return next((kind for one in inner if (kind := _unstorable(one)) is not None), None)
    return None if isinstance(value, STORABLE) else type(value).__name__


def _moved(value: Any, device: torch.device) -> Any:
    """The same nested values, with all tensors on the device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(one, device) for key, one in value.items()}
    return type(value)(_moved(one, device) for one in value) if isinstance(value, list | tuple) else value
