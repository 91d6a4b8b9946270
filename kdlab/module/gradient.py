"""The size of gradients before an optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def unscale(trainer: Any, optimizer: torch.optim.Optimizer) -> None:
    """Divide the gradients by the scale that keeps float16 from underflowing, where Lightning leaves that to the step
    of a fused optimizer: code that clips gradients or adds to them needs them unscaled."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        scaler.unscale_(optimizer)


def clip_norm(parameters: Sequence[Tensor], most: float) -> None:
    """``torch.nn.utils.clip_grad_norm_``, which on a CPU leaves gradients alone that are short enough already.

    Torch would multiply them all by 1. On a GPU the host would have to wait for the norm.
    """
    norm = torch.nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
    known = type(norm) is Tensor and norm.device.type == "cpu"  # here, and not on other processes as well
    if not known or not norm + 1e-6 <= most:  # as torch reckons; NaN is not short
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
