"""The number format in which a machine computes fastest without losing accuracy, and computing in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path

DEVICES = ("cpu", "cuda", "mps", "xpu")
_accelerator: ContextVar[str] = ContextVar("accelerator", default="auto")


@lru_cache
def fastest(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """``bf16-mixed`` where the CPU multiplies bfloat16 faster than float32, else ``32-true``; the resolver
    ``${cpu_precision:}``."""
    return "bf16-mixed" if cpuinfo.exists() and multiplies_bfloat16_faster(cpuinfo.read_text()) else "32-true"


def multiplies_bfloat16_faster(cpuinfo: str) -> bool:
    """Whether a CPU multiplies bfloat16 matrices faster than float32 ones.

    Intel's do with AMX. With AVX-512 alone (``avx512_bf16``) they took twice as long as in float32, at every size.

    Args:
        cpuinfo: the text of ``/proc/cpuinfo``.

    Example:
        >>> multiplies_bfloat16_faster("vendor_id : GenuineIntel\\nflags : avx512_bf16 amx_bf16")
        True
        >>> multiplies_bfloat16_faster("vendor_id : GenuineIntel\\nflags : avx512_bf16")
        False
    """
    fields = [line.partition(":") for line in cpuinfo.splitlines()]
    first = {name.strip(): value.strip() for name, _, value in reversed(fields)}
    flags = first.get("flags", "").split()
    return "amx_bf16" in flags or ("avx512_bf16" in flags and first.get("vendor_id") != "GenuineIntel")


@contextmanager
def computing(precision: str, accelerator: str = "auto") -> Iterator[None]:
    """Compute as the trainer does with ``precision``; the state is the thread's own.

    Args:
        precision: as Lightning names it (``bf16-mixed``), or as :func:`current` does.
        accelerator: the trainer's: ``cpu`` leaves the GPUs of the machine to others, see :func:`may_use_gpus`.
    """
    import torch

    halves = {"bf16-mixed": torch.bfloat16, "bfloat16": torch.bfloat16, "16-mixed": torch.float16}
    dtype = (halves | {"float16": torch.float16}).get(str(precision))
    with ExitStack() as contexts:
        contexts.callback(_accelerator.reset, _accelerator.set(accelerator))
        if dtype is not None:
            contexts.enter_context(torch.autocast("cpu", dtype))
            if torch.cuda.is_available():
                contexts.enter_context(torch.autocast("cuda", dtype))
        yield


@contextmanager
def exact() -> Iterator[None]:
    """Compute in the number formats of the tensors themselves: autocast is off, on every device.

    Also a decorator, ``@exact()``, for functions that multiply matrices, which autocast would do in half precision.

    Example:
        >>> import torch
        >>> with torch.autocast("cpu", torch.bfloat16), exact():
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.float32
    """
    import torch

    with ExitStack() as contexts:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                contexts.enter_context(torch.autocast(device, enabled=False))
        yield


def current() -> str:
    """The precision that is being computed in: ``float32``, ``bfloat16`` or ``float16``."""
    import torch

    return str(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32).split(".")[-1]


def may_use_gpus() -> bool:
    """Whether what computes here may take a GPU of the machine: all but a trainer on the CPU.

    Example:
        >>> with computing("32-true", "cpu"):
        ...     may_use_gpus()
        False
    """
    return _accelerator.get() != "cpu"
