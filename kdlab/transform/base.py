"""The base of transforms, which change a model for a run: they add parameters, prune or quantise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import nn

from kdlab.datamodule.data import Data
from kdlab.model.block import blocks

FAMILIES = "a transformer with layers of attention, such as model=minilm_l6, bert_tiny, hf or layers_of_teacher"


class Transform(ABC):
    """Changes a model before its first step, after each optimizer step, and before it is saved.

    One instance lives as long as the run: what it remembers between steps is its :meth:`state`, which is in every
    checkpoint. Of several transforms each is attached to what the ones before it left; they are finished in reverse.

    Attributes:
        plain: whether :meth:`finish` leaves a model that its own class loads. If not, kdlab attaches the transform
            again to read it, and what the model computes must depend on its parameters and buffers alone.
        splittable: whether it works on a model of which each process has a part only, as under ``trainer=fsdp``.
        compiles: whether the model still compiles to one graph, as ``compile=true`` needs.
        keeps_frozen: whether layers that do not learn compute the same in every step, so that ``reuse_frozen=true``
            may run them once.

    Example: after each step, weights below a threshold that rises are 0::

        class Threshold(Transform):
            def attach(self, model, data):
                return model

            @torch.no_grad()
            def after_step(self, model, progress):
                for weight in model.parameters():
                    weight[weight.abs() < 0.01 * progress] = 0

    Source: the protocol follows torchtitan's ``ModelConverter`` (convert, then a hook after each optimizer step).
    """

    plain: bool = True
    splittable: bool = False
    compiles: bool = True
    keeps_frozen: bool = False

    @abstractmethod
    def attach(self, model: nn.Module, data: Data | None) -> nn.Module:
        """Change ``model`` before its first step, in place, and return it.

        Args:
            data: the run's datamodule after ``setup``; None where a saved model that is not plain is built again: its
                weights are loaded afterwards.

        Raises:
            UserError: the model lacks what the transform needs.
        """

    def after_step(self, model: nn.Module, progress: float) -> None:  # noqa: B027  most have nothing to do
        """Change the weights, in place, after each optimizer step.

        Args:
            progress: 0 after the first step, 1 after the last.
        """

    def complete(self, progress: float) -> bool:
        """Whether the model is from now on what the run is for, such as pruned to the sparsity that was asked for.

        Only such weights are kept as the best, and only they count as no gain for early stopping.

        Args:
            progress: in [0, 1].
        """
        return True

    def finish(self, model: nn.Module) -> nn.Module:
        """Give the trained model the form in which it is saved, in place, and return it.

        It must compute the same as before, to rounding: its test is over.
        """
        return model

    def state(self) -> dict[str, Any]:
        """The memory of :meth:`after_step`: tensors, numbers, strings, and lists and mappings of these."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` returned, with tensors on the device of the model; not called for an empty one."""
        raise NotImplementedError(f"{type(self).__name__} has a state(), so it needs a method load_state(state)")


class Peft(Transform, ABC):
    """A parameter-efficient method: adds parameters that learn beside the head, while the model's own do not.

    Its hooks and modules are part of the model, and nothing is remembered besides.
    """

    splittable = True
    keeps_frozen = True


def only_head(model: nn.Module) -> None:
    """Of all parameters only those of the head ask for gradients."""
    model.requires_grad_(False)
    for parameter in blocks(model)[-1].parameters:
        parameter.requires_grad_(True)
