"""Language models that classify by the words of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import nn
from transformers import PreTrainedModel

from kdlab.error import UserError
from kdlab.model.family.find import family
from kdlab.model.family.origin import Origin
from kdlab.model.family.transformer import Transformer


@final
class Prompted(Transformer):
    """The layers and blocks are those of the language model inside. There are no taps: its positions are those of the
    prompt, and it has no classifier."""

    @classmethod
    def claims(cls, model: nn.Module) -> bool:
        return isinstance(model, PreTrainedModel) and model.config.model_type == "kdlab_prompted"

    def taps(self, model: nn.Module) -> dict[str, Origin]:
        return {}

    def head_path(self, model: nn.Module) -> str | None:
        return None

    def depth(self, model: nn.Module) -> int:
        return family(inside(model)).depth(inside(model))

    def heads(self, model: nn.Module) -> int:
        return family(inside(model)).heads(inside(model))

    def layers(self, model: nn.Module) -> str:
        return f"inner.{family(inside(model)).layers(inside(model))}"

    def keep_layers(self, model: nn.Module, chosen: Sequence[int]) -> None:
        family(inside(model)).keep_layers(inside(model), chosen)
        config: Any = model.config
        own: Any = inside(model).config
        config.inner = own.to_dict()

    def relabel(self, model: nn.Module, labels: Sequence[str], task: str) -> None:
        config: Any = model.config
        known = [str(name) for _, name in sorted(config.id2label.items())]
        if task != "sequence_classification" or list(labels) != known:
            raise UserError(
                f"the teacher has words for the labels {', '.join(known)} alone, so that its layers make no model for "
                "others: choose another student"
            )


def inside(model: nn.Module) -> nn.Module:
    """The language model."""
    found: nn.Module = model.inner  # type: ignore[assignment]
    return found
