"""The cost of a model: parameters, bytes, multiply-adds, and time in inference."""

from __future__ import annotations

import fcntl
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, process_time, sleep
from types import MappingProxyType
from typing import final

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.direction import COUNTED, TIMED
from kdlab.error import UserError
from kdlab.metric.base import Evaluator
from kdlab.model.family.find import family
from kdlab.output import Output

LENGTH = 32  # tokens of the row that a model is measured with, about a long sentence
REPEATS = 40
PATIENCE = 60.0  # seconds to wait for others who measure
CPU = torch.device("cpu")
BATCHES = 6  # of a split that are timed, spread evenly


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


def macs(model: nn.Module, row: Mapping[str, Tensor]) -> float:
    """Multiply-adds of all matrix products and convolutions for one row.

    The same on every machine. Sums, norms and activations are not counted, as is usual.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    fast = torch.backends.mha.get_fastpath_enabled()
    counter = FlopCounterMode(display=False)
    try:  # fused kernels hide their products from the counter
        torch.backends.mha.set_fastpath_enabled(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no Intel GPU
            plain = torch.backends.mkldnn.flags(enabled=False)
            with plain, sdpa_kernel(SDPBackend.MATH), _still(model) as device, counter:
                model(**_on(row, device))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() / 2


def latency(model: nn.Module, row: Mapping[str, Tensor], repeats: int = REPEATS) -> dict[str, float]:
    """Milliseconds for one row: ``latency_ms`` and its spread, ``latency_p10_ms`` and ``_p90_ms``.

    On a CPU it is the median of the time that the processor worked, on one thread, which a busy machine changes little;
    on a GPU the minimum by its own clock. Three calls warm up. One process of a machine measures at a time.

    Args:
        row: inputs of one row, as long for all models that are compared; of the data it depends on the kind alone.
    """
    with _still(model) as device:
        inputs = _on(row, device)
        return timed(lambda: model(**inputs), device, repeats)


def timed(call: Callable[[], object], device: torch.device = CPU, repeats: int = REPEATS) -> dict[str, float]:
    """Milliseconds of a call, measured as in :func:`latency`.

    Args:
        call: computes on one thread, or on as many as torch is set to.
    """
    with _alone(), _one_thread():
        times = [1e3 * _seconds(call, device) for _ in range(repeats + 3)][3:]
    spread = quantiles(times, n=10, method="inclusive") if len(times) > 1 else times
    return {
        "latency_ms": min(times) if device.type == "cuda" else median(times),
        "latency_p10_ms": spread[0],
        "latency_p90_ms": spread[-1],
    }


def throughput(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Rows a second over ``batches``, padding and all, after the first one ran once to warm up; as :func:`latency`.

    Only the model is timed: neither loading nor the way to the device.

    Raises:
        ValueError: there is no batch.
    """
    rows, seconds = 0, 0.0
    with _still(model) as device, _alone(), _one_thread():
        for batch in batches:
            inputs = family(model).adapted(model, batch.to(device).inputs)
            if not rows:
                model(**inputs)
            seconds += _seconds(lambda inputs=inputs: model(**inputs), device)  # type: ignore[misc]
            rows += len(batch)
    if not rows:
        raise ValueError("throughput needs at least one batch")
    return rows / seconds


@final
class Cost(Evaluator):
    """``model/…``: ``parameters``, ``size_mb`` and ``macs``; ``perf/…``: ``latency_ms`` with its spread, and
    ``rows_per_second`` where batches of a split are at hand.

    Args:
        repeats: how often a row is timed.

    Raises:
        UserError: ``repeats`` is less than 1.
    """

    higher_is_better = MappingProxyType(
        {
            "model/parameters": False, "model/macs": False, "model/size_mb": False, "perf/latency_ms": False,
            "perf/latency_p10_ms": False, "perf/latency_p90_ms": False, "perf/rows_per_second": True,
        }
    )  # fmt: skip
    costs = MappingProxyType({
        "model/parameters": COUNTED, "model/macs": COUNTED, "model/size_mb": COUNTED, "perf/latency_ms": TIMED,
    })  # fmt: skip
    main = ("model/parameters", "model/macs", "model/size_mb", "perf/latency_ms", "perf/rows_per_second")  # of a table
    when = ("test", "evaluate")

    def __init__(self, repeats: int = REPEATS) -> None:
        super().__init__()
        if repeats < 1:
            raise UserError(f"metric.cost.repeats is {repeats}, and must be 1 or more")
        self.repeats = repeats

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        """Nothing: outputs do not change what a model costs."""

    def compute(self) -> dict[str, float]:
        return {}

    def examine(self, model: nn.Module, data: Data, batches: Sequence[Batch] = ()) -> dict[str, float]:
        row, counted = data.processor.example(LENGTH), parameters(model)
        found = {f"model/{name}": counted[name] for name in ("parameters", "size_mb")} | {
            "model/macs": macs(model, row)
        }
        found |= {f"perf/{name}": value for name, value in latency(model, row, self.repeats).items()}
        if batches:
            found["perf/rows_per_second"] = throughput(model, batches[:: -(-len(batches) // BATCHES)])
        return found


def _on(row: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in row.items()}


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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other use processor time too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _alone() -> Iterator[None]:
    """One process of this machine at a time, whoever's it is; after a minute of waiting, all the same."""
    path = Path(tempfile.gettempdir()) / "kdlab-measures.lock"
    handle = None
    with suppress(OSError):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CREAT, 0o644)
    try:
        until = monotonic() + PATIENCE
        while handle is not None and _taken(handle) and monotonic() < until:
            sleep(0.05)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _taken(handle: int) -> bool:
    """Whether another process has the lock; else this one has it, unless the file system knows none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        return begin.elapsed_time(end) / 1e3
    start = process_time()
    call()
    return process_time() - start
