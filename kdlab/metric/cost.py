"""What a model costs: parameters, bytes, and time in inference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

INPUTS = ("input_ids", "attention_mask")
HIGHER_IS_BETTER = {
    "model/parameters": False,
    "model/trainable_parameters": False,
    "model/size_mb": False,
    "perf/latency_ms": False,
    "perf/padding": False,  # the share of a training batch
}


def parameters(model: nn.Module) -> dict[str, float]:
    """``parameters``, ``trainable_parameters`` and ``size_mb`` (parameters and buffers, 10^6 bytes); shared ones
    count once."""
    every = list(model.parameters())
    size = sum(t.numel() * t.element_size() for t in [*every, *model.buffers()])
    return {
        "parameters": sum(p.numel() for p in every),
        "trainable_parameters": sum(p.numel() for p in every if p.requires_grad),
        "size_mb": size / 1e6,
    }


def latency(model: nn.Module, batch: Mapping[str, Tensor], repeats: int = 20) -> float:
    """Median milliseconds for the first row of ``batch`` without its padding, after three runs to warm up."""
    real = batch["attention_mask"][0].bool()
    row = {name: batch[name][:1, real] for name in INPUTS}
    with _still(model) as device:
        row = {name: value.to(device) for name, value in row.items()}
        times = [_seconds(model, row, device) for _ in range(repeats + 3)]
    return median(times[3:]) * 1e3


def throughput(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> float:
    """Rows a second over ``batches``, padding and all, after the first one ran once to warm up; one process.

    Only the model is timed: neither loading nor the way to the device.

    Raises:
        ValueError: there is no batch.
    """
    rows, seconds = 0, 0.0
    with _still(model) as device:
        for batch in batches:
            inputs = {name: batch[name].to(device) for name in INPUTS}
            if not rows:
                _seconds(model, inputs, device)
            seconds += _seconds(model, inputs, device)
            rows += len(inputs["input_ids"])
    if not rows:
        raise ValueError("throughput needs at least one batch")
    return rows / seconds


@contextmanager
def _still(model: nn.Module) -> Iterator[torch.device]:
    """Eval and inference mode, with every module's own mode given back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield next(iter(model.parameters())).device
    finally:
        for module, mode in modes.items():
            module.training = mode


def _seconds(model: nn.Module, inputs: Mapping[str, Tensor], device: torch.device) -> float:
    _synchronise(device)
    start = perf_counter()
    model(**inputs)
    _synchronise(device)
    return perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
