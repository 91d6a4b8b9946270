"""A model as one program: ``torch.export`` traces it for any number of rows and any length."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdlab.datamodule.processor.base import Processor
from kdlab.error import UserError
from kdlab.model.tap import TapReader
from kdlab.output import at_least_float32

LOUD = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch.fx")
AXES = ("batch", "length")


class Logits(nn.Module):
    """A model whose inputs are tensors in their order, and whose output is a tensor: its logits, float32 or wider.

    Args:
        names: of the inputs.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)
        self._reader = TapReader(model, ())

    def forward(self, *values: Tensor) -> Tensor:
        inputs = dict(zip(self.names, values, strict=True))
        return at_least_float32(self._reader.forward(**self._reader.family.adapted(self.model, inputs))[0])


@dataclass(frozen=True)
class Example:
    """Rows that a model is traced with.

    Attributes:
        inputs: of at least two rows, by name: a size of 1 would become a constant.
        axes: of each input, the axes whose size is free: number -> ``batch`` or ``length``.
    """

    inputs: Mapping[str, Tensor]
    axes: Mapping[str, Mapping[int, str]]


def axes(processor: Processor) -> dict[str, dict[int, str]]:
    """The axes of a processor's inputs whose size is free, from inputs of several sizes.

    Example:
        >>> from kdlab.datamodule.processor.image import Image
        >>> axes(Image(8, 1, (0.5,), (0.5,)))
        {'pixel_values': {0: 'batch'}}
    """
    short, long = processor.example(3), processor.example(5)
    return {
        name: {0: AXES[0]} | {axis: AXES[1] for axis, size in enumerate(value.shape) if size != long[name].shape[axis]}
        for name, value in short.items()
    }


def trace(model: nn.Module, example: Example) -> ExportedProgram:
    """The program of :class:`Logits` of a model.

    Raises:
        UserError: torch.export cannot follow the model.
    """
    names = list(example.inputs)
    free = tuple(dict.fromkeys(example.axes[name], Dim.DYNAMIC) for name in names)
    values = tuple(example.inputs[name] for name in names)
    try:
        with torch.no_grad(), silent():
            return torch.export.export(Logits(model, names).eval(), values, dynamic_shapes=(free,), strict=False)
    except Exception as problem:  # of many kinds, most of torch's own inside
        reason = " ".join(str(problem).split())[:300]
        raise UserError(
            f"torch.export cannot trace a {type(model).__name__} ({type(problem).__name__}: {reason}): use "
            "format=safetensors, or load the run with kdlab"
        ) from problem


@contextmanager
def silent() -> Iterator[None]:
    """Keep the notes of exporters to themselves."""
    loggers = [logging.getLogger(name) for name in LOUD]
    before = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
