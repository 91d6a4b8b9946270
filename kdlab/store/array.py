"""Tensors as the arrays of a store, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def plain(values: Tensor) -> np.ndarray:
    """As a numpy array; bfloat16, which numpy lacks, as the int16 with the same bits."""
    values = values.detach().cpu()
    return (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()


def tensor(values: np.ndarray, dtype: str) -> Tensor:
    """A stored array as a float32 tensor."""
    found = torch.from_numpy(np.ascontiguousarray(values))
    return (found.view(torch.bfloat16) if dtype == "bfloat16" else found).float()
