"""What is added to a model so that few parameters learn: parameter-efficient fine-tuning."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from kdlab.model.block import blocks

FAMILIES = "a transformer with layers of attention, such as model=minilm_l6, bert_tiny, hf or layers_of_teacher"


class Peft(ABC):
    """A method is two functions of a model: one adds what learns, the other folds it into the weights.

    Attributes:
        merges: whether :meth:`merge` leaves a plain model, which says the same as the model with what was added.
    """

    merges: bool = True

    @abstractmethod
    def attach(self, model: nn.Module) -> nn.Module:
        """Add parameters to ``model``, in place; they and the head ask for gradients, the others no longer do.

        Raises:
            UserError: the model has no place for them.
        """

    @abstractmethod
    def merge(self, model: nn.Module) -> nn.Module:
        """Fold into the weights, in place, what :meth:`attach` added; where it cannot be folded, the model stays."""


def only_head(model: nn.Module) -> None:
    """Of all parameters only those of the head ask for gradients."""
    model.requires_grad_(False)
    for parameter in blocks(model)[-1].parameters:
        parameter.requires_grad_(True)
