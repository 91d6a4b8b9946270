"""Methods that the library ``peft`` injects into a model and folds into its weights."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.transform.base import Peft, only_head
from kdlab.transform.place import find, known


class Injected(Peft, ABC):
    """Adds weights to linear maps of the layers; a subclass chooses the kind.

    Args:
        modules: places as in :data:`kdlab.transform.place.PLACES`, or ``[all]``.
    """

    def __init__(self, modules: list[str]) -> None:
        self.modules = known(modules)

    @abstractmethod
    def config(self, paths: dict[str, nn.Module]) -> Any:
        """The library's own config for the modules at these dotted paths."""

    def attach(self, model: nn.Module, data: Data | None) -> nn.Module:
        """See :class:`Transform`."""
        peft = library()
        paths = find(model, self.modules, "peft.modules")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the library sets by itself for GPT-2's transposed maps
            peft.inject_adapter_in_model(self.config(paths), model)
        added = [parameter for parameter in model.parameters() if parameter.requires_grad]
        only_head(model)
        for parameter in added:
            parameter.requires_grad_(True)
        return model

    def finish(self, model: nn.Module) -> nn.Module:
        """See :class:`Transform`."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        for path, layer in [(name, one) for name, one in model.named_modules() if isinstance(one, BaseTunerLayer)]:
            layer.merge(safe_merge=True)
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, layer.get_base_layer())
        vars(model).pop("peft_config", None)
        return model


def transposed(paths: dict[str, nn.Module]) -> bool:
    """Whether the maps keep their weights as ``[in, out]``."""
    return any(isinstance(module, Conv1D) for module in paths.values())


def library() -> Any:
    """The library itself.

    Raises:
        UserError: it is not installed.
    """
    try:
        import peft
    except ImportError as problem:
        raise UserError("this peft option needs the library peft: pip install 'kdlab[peft]'") from problem
    return peft
