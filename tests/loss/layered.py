"""A layered term with all that it needs: placed, connected, in float64, and two outputs with its taps."""

from __future__ import annotations

from typing import Any

import laws
import torch
from torch import Tensor

from kdlab.loss.feature.layered import Layered
from kdlab.loss.term import ModelSpec
from kdlab.output import Output

LAYERS = {"student": 2, "teacher": 4}


def ready(term: Layered, width: int = 4, wider: int = 6, seed: int = 0, **kind: Any) -> tuple[Any, Output, Output]:
    """The term (untyped, for its adapters), what the student says and what the teacher says."""
    torch.manual_seed(seed)
    term.resolve_layers(LAYERS["student"], LAYERS["teacher"])
    wide = {"student": width, "teacher": wider}
    sides = [ModelSpec(dict.fromkeys(term.taps[role], wide[role])) for role in ("student", "teacher")]
    term.build_adapters(*sides, rows=8)
    said = [
        laws.output(seed=seed + index, width=wide[role], taps=term.taps[role], **kind)
        for index, role in enumerate(("student", "teacher"))
    ]
    return term.double(), *said


def rows(output: Output, tap: str) -> list[Tensor]:
    """The real tokens of each row, ``[n, D]``: what a formula that is written out needs no mask for."""
    return [values[real] for values, real in zip(output.taps[tap], output.tokens, strict=True)]


def features(seed: int = 0, width: int = 6, count: int = 4) -> Tensor:
    """Random ``[B, L, D]`` that asks for a gradient."""
    return laws.output(rows=count, seed=seed, width=width, taps=["hidden.0"]).taps["hidden.0"]


def tokens(count: int = 4) -> Tensor:
    return laws.output(rows=count).tokens
