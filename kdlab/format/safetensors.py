"""Weights and config as transformers loads them, in a number format of choice."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kdlab.error import UserError
from kdlab.format.base import Format, Run
from kdlab.format.trace import Example, Logits
from kdlab.model.family.base import WEIGHTS
from kdlab.model.family.find import family
from kdlab.model.pretrained import kind, read_config, read_model

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@final
class Safetensors(Format):
    """``model.safetensors`` with ``config.json``, the layout of ``save_pretrained``.

    Args:
        dtype: of all weights that are no integers; the two of 16 bits halve the size.
    """

    def __init__(self, dtype: Literal["float32", "bfloat16", "float16"] = "float32") -> None:
        if dtype not in TYPES:
            raise UserError(f"format.dtype is {dtype!r}: choose one of {', '.join(TYPES)}")
        self.dtype, self.exact = dtype, dtype == "float32"

    def write(self, model: nn.Module, example: Example, folder: Path) -> list[Path]:
        """See :class:`Format`."""
        if not isinstance(model, PreTrainedModel) or not type(model).__module__.startswith("transformers."):
            raise UserError(
                f"{type(model).__name__} is a class of kdlab or of yours, whose weights mean nothing without its code: "
                "use format=onnx or format=torch_export"
            )
        other: Any = copy.deepcopy(model)
        other.to(TYPES[self.dtype])
        other.config.dtype = TYPES[self.dtype]
        family(other).write(other, folder)
        return [folder / WEIGHTS]

    def load(self, folder: Path, names: Sequence[str]) -> Run:
        """See :class:`Format`."""
        config = read_config(str(folder))
        model: Any = read_model(str(folder), config, new_head=False, task=kind(config))
        logits = Logits(model.to(TYPES[self.dtype]).eval(), names)

        def run(inputs: Mapping[str, Tensor]) -> Tensor:
            with torch.inference_mode():
                given = (inputs[name] for name in names)
                return logits(*(one.to(TYPES[self.dtype]) if one.is_floating_point() else one for one in given))

        return run

    def usage(self, names: Sequence[str]) -> tuple[str, str]:
        """See :class:`Format`."""
        kind = "Image" if "pixel_values" in names else "Sequence"
        auto = f"AutoModelFor{kind}Classification"
        begin = f"import torch\nfrom transformers import {auto}\n\nmodel = {auto}.from_pretrained(folder).eval()"
        cast = "" if self.exact else ".to(model.dtype)" if kind == "Image" else ""
        given = f"{{name: torch.from_numpy(inputs[name]){cast} for name in {tuple(names)!r}}}"
        return begin, f"with torch.inference_mode():\n    logits = model(**{given}).logits.float().numpy()"
