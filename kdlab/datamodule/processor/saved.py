"""Processors that lie beside the weights of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdlab.datamodule.processor.base import saved_arguments
from kdlab.datamodule.processor.key import PROCESSORS, TARGETS
from kdlab.model.save import load_tokenizer


def saved_processor(folder: Path) -> Any:
    """The processor of transformers in a folder, such as a tokenizer; None: there is none."""
    return load_tokenizer(folder)


def factory_arguments(folder: Path) -> dict[str, Any]:
    """What the factory of the model in a folder takes besides the labels, by name."""
    targets = {name: found for name in TARGETS if (found := saved_processor(folder / name)) is not None}
    return {PROCESSORS[0]: saved_processor(folder), **targets, **saved_arguments(folder)}
