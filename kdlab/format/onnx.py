"""ONNX, which ONNX Runtime and most other engines run; in float32, or with weights of 8 bits."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from kdlab.format.base import Format, Run
from kdlab.format.trace import Example, silent, trace

FILE = "model.onnx"
INSTRUCTIONS = (
    "The weights have 8 bits and the activations are quantised as they come, so the processor needs dot products of 8 "
    "bits: AVX512-VNNI or AVX-VNNI on x86 (Intel since Ice Lake, AMD since Zen 4; `lscpu | grep vnni`), `dotprod` on "
    "ARM. On older x86 processors sums of two products saturate and the decisions differ: export again with "
    "`format.reduce_range=true` there, and read the parity report of that machine."
)
REDUCED = "The weights use 7 of 8 bits, so that sums do not saturate on x86 processors without VNNI."


@final
class Onnx(Format):
    """``model.onnx``, made by ``torch.onnx.export(dynamo=True)``.

    Args:
        int8: quantise the weights of embeddings and linear maps to 8 bits, and activations as they come (dynamic
            quantisation of ONNX Runtime).
        reduce_range: with int8, use 7 bits of each weight.
    """

    libraries = ("onnx", "onnxscript", "onnxruntime")

    def __init__(self, int8: bool = False, reduce_range: bool = False) -> None:
        self.int8, self.reduce_range, self.exact = int8, reduce_range, not int8

    def write(self, model: nn.Module, example: Example, folder: Path) -> list[Path]:
        """See :class:`Format`."""
        path = folder / FILE
        program = trace(model, example)
        with silent():
            made: Any = torch.onnx.export(
                program, dynamo=True, input_names=list(example.inputs), output_names=["logits"], verbose=False
            )
            _name_axes(made.model.graph, example)
            made.save(str(path))
        if self.int8:
            _quantise(path, self.reduce_range)
        return [one for one in (path, folder / f"{FILE}.data") if one.exists()]

    def load(self, folder: Path, names: Sequence[str]) -> Run:
        """See :class:`Format`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])
        known = {one.name for one in session.get_inputs()}

        def run(inputs: Mapping[str, Tensor]) -> Tensor:
            given = {name: inputs[name].numpy() for name in names if name in known}
            return torch.from_numpy(session.run(["logits"], given)[0])

        return run

    def usage(self, names: Sequence[str]) -> tuple[str, str]:
        """See :class:`Format`."""
        begin = f'import onnxruntime\n\nsession = onnxruntime.InferenceSession(str(folder / "{FILE}"))'
        known = "{one.name for one in session.get_inputs()}"
        given = f"{{name: inputs[name] for name in {known}}}"
        return begin, f'(logits,) = session.run(["logits"], {given})'

    def notes(self) -> Iterator[str]:
        """See :class:`Format`."""
        if self.int8:
            yield REDUCED if self.reduce_range else INSTRUCTIONS


def _name_axes(graph: Any, example: Example) -> None:
    """Call the free axes of all inputs and of the logits batch and length, in the place of the tracer's names."""
    for value in graph.inputs:
        free = example.axes[value.name]
        value.shape = type(value.shape)([free.get(axis, size) for axis, size in enumerate(value.shape)])


def _quantise(path: Path, reduce_range: bool) -> None:
    """Quantise the weights of an ONNX file in place."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_name("whole.onnx")
    logger = logging.getLogger()
    level = logger.level
    try:
        for one in (path, path.with_name(f"{FILE}.data")):
            if one.exists() and one != path:
                import onnx

                onnx.save(onnx.load(str(path)), str(path))  # weights into the one file
                one.unlink()
        path.rename(whole)
        logger.setLevel(logging.ERROR)  # it advises on the root logger
        quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=reduce_range)
    finally:
        logger.setLevel(level)
        whole.unlink(missing_ok=True)
