"""Image classifiers of transformers: ResNet, ConvNeXt, ViT, DeiT and others whose layers or stages are a list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

from torch import Tensor, nn
from transformers import PreTrainedModel

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.model.family.attention import KINDS, SEPARATE, projections
from kdlab.model.family.base import Family
from kdlab.model.family.origin import ModuleInput, ModuleOutput, Origin, Returned
from kdlab.model.family.stack import places
from kdlab.model.family.transformer import use_eager_attention
from kdlab.model.label import name_labels
from kdlab.model.quiet import quiet

ENDS = ("ForImageClassification", "ForImageClassificationWithTeacher")

PROJECTED = ("q_proj", "k_proj", "v_proj")  # the names of ViT and DeiT


@final
class ImageClassifier(Family):
    """``hidden.i`` is the output of layer or stage i: ``[B, L, D]``, where L are the patches with the class's token, or
    the places of a feature map, row after row. ``embedding`` enters the first layer."""

    auto: ClassVar[dict[str, str]] = {"image_classification": "AutoModelForImageClassification"}
    architectures: ClassVar[dict[str, str]] = dict.fromkeys(ENDS, "image_classification")

    @classmethod
    def claims(cls, model: nn.Module) -> bool:
        return isinstance(model, PreTrainedModel) and type(model).__name__.endswith(ENDS)

    def options(self, model: nn.Module, origins: Collection[Origin]) -> dict[str, Any]:
        attention = any(isinstance(origin, Returned) for origin in origins)
        if attention:
            use_eager_attention(model)
        return {"output_attentions": True} if attention else {}

    def taps(self, model: nn.Module) -> dict[str, Origin]:
        path, depth = self.layers(model), self.depth(model)
        found: dict[str, Origin] = {"embedding": ModuleInput(f"{path}.0")}
        found |= {f"hidden.{index}": ModuleOutput((f"{path}.{index}",)) for index in range(depth)}
        if self.heads(model):
            found |= projections(model, (*SEPARATE, PROJECTED))
            found |= {f"attention.{index}": Returned("attentions", index) for index in range(depth)}
        return found | self.pooled(model)

    def axes(self, model: nn.Module, tap: str) -> tuple[str, ...] | None:
        kind = tap.partition(".")[0]
        if kind in ("embedding", "hidden", *KINDS):
            return ("row", "place", "width")
        if kind == "attention":
            return ("row", "head", "place", "place")
        return ("row", "width") if kind == "pooled" else super().axes(model, tap)

    def trim(self, model: nn.Module, batch: Batch, tap: str, values: Tensor) -> Tensor:
        if values.ndim == 4 and tap.partition(".")[0] in ("embedding", "hidden"):
            return places(values, 1)
        return values

    def layers(self, model: nn.Module) -> str:
        """See :class:`Family`; of the lists of modules that lie in no other the largest."""
        lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
        outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
        if not outer:
            raise UserError(
                f"Cannot split {type(model).__name__} into layers: none of its modules is a list. Choose a ResNet, "
                "ConvNeXt, ViT or DeiT, or write a family (kdlab help guide/own_options)"
            )
        sizes = {name: sum(one.numel() for one in model.get_submodule(name).parameters()) for name in outer}
        return max(sizes, key=lambda name: sizes[name])

    def backbone(self, model: nn.Module) -> nn.Module:
        found: nn.Module = getattr(model, getattr(model, "base_model_prefix", "") or "", model)
        return found

    def depth(self, model: nn.Module) -> int:
        return len(list(model.get_submodule(self.layers(model)).children()))

    def heads(self, model: nn.Module) -> int:
        found = getattr(model.config, "num_attention_heads", None)
        return found if isinstance(found, int) else 0

    def keep_layers(self, model: nn.Module, chosen: Sequence[int]) -> None:
        config: Any = model.config
        if not isinstance(getattr(config, "num_hidden_layers", None), int) or hasattr(config, "depths"):
            raise UserError(
                f"layers={list(chosen)} cannot be taken from a {type(model).__name__}, whose stages have different "
                "widths: choose a student of its own, such as model@student=cnn_small"
            )
        super().keep_layers(model, chosen)
        config.num_hidden_layers = len(chosen)

    def relabel(self, model: nn.Module, labels: Sequence[str], task: str) -> None:
        config: Any = model.config
        if config.num_labels != len(labels):
            new = self.new_head(model, len(labels))
            model._init_weights(new)  # type: ignore[operator]
            model.num_labels = len(labels)  # type: ignore[assignment]
        name_labels(config, labels)

    def fresh(self, model: nn.Module) -> nn.Module:
        with quiet():
            return type(model)(model.config)

    def write(self, model: nn.Module, folder: Path) -> None:
        with quiet():
            model.save_pretrained(folder)  # type: ignore[operator]
