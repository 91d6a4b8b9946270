"""The largest logits of a position in few bytes: ids in as many bits as the vocabulary needs, logits in about six."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import expm1, prod, sqrt
from typing import Any

import numpy as np
import torch

from kdlab.store import bits
from kdlab.top_k import TopK

WIDTH = 10  # bits of the code of a logit, before rising codes are packed together
LEVELS = 1021  # the code of the smallest logit above the floor
FLOOR, NOTHING = 1022, 1023  # the codes of logits below the floor, and of -inf
LOWEST = 32.0  # a logit this far below the largest, at a temperature, has a share below 2e-14


@dataclass(frozen=True)
class Packing:
    """Packs the k largest logits of a distribution over many classes into a line of bytes, and unpacks them.

    A line has the k class ids in their order, each in ``ceil(log2(classes))`` bits; the codes of the logits; the scale
    of the codes as float16; and the tails as float16. Of a line it holds that:

    - ids and their order are exact, and the largest logit is exactly 0;
    - the other logits v are ``-code * step``, with ``step = scale / 1021``, where the scale is the smallest v, rounded
      up to a float16: v is off by at most ``step / 2`` (0.006 where the smallest is 12 below the largest);
    - a v or tail below ``floor`` is raised to it: at the largest temperature it then has a share of at most e^-32;
    - -inf stays -inf, and a line with NaN is NaN;
    - a tail is off by at most ``2 ** -11`` of itself.

    :func:`kl_change` bounds what these errors do to a divergence.

    Attributes:
        k: the number of logits of a position.
        classes: the number of classes, at least k.
        temperatures: those of the tails.

    Example: 16 + 6 bits for each of 64 logits, a scale and four tails:
        >>> packing = Packing(64, 49152, (1.0, 2.0, 4.0, 8.0))
        >>> packing.size
        186
        >>> packing = Packing(2, 3, (1.0,))
        >>> packing.unpack(packing.pack(TopK.of(torch.tensor([0.0, 3.0, -1.0]), 2, [1.0]))).value
        tensor([ 0., -3.])
    """

    k: int
    classes: int
    temperatures: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.classes <= 2**bits.WIDEST:
            raise ValueError(f"{self.k} of {self.classes} logits cannot be packed")

    @classmethod
    def read(cls, known: Mapping[str, Any]) -> Packing:
        """The packing that :meth:`plain` describes."""
        return cls(int(known["k"]), int(known["classes"]), tuple(float(one) for one in known["temperatures"]))

    def plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return {"k": self.k, "classes": self.classes, "temperatures": list(self.temperatures)}

    @property
    def id_width(self) -> int:
        """The bits of a class id."""
        return (self.classes - 1).bit_length()

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """The bytes of the ids, the codes, the scale and the tails."""
        return bits.size(self.k, self.id_width), bits.size_rising(self.k, WIDTH), 2, 2 * len(self.temperatures)

    @property
    def size(self) -> int:
        """The bytes of a line."""
        return sum(self.sizes)

    @property
    def floor(self) -> float:
        """The lowest logit, less the largest, that is kept apart from lower ones."""
        return -min(LOWEST * max(self.temperatures), 2.0**15)  # inside of float16

    def pack(self, top: TopK) -> np.ndarray:
        """``[..., size]`` uint8."""
        shape = top.index.shape[:-1]
        index, value, tail = (
            part.detach().cpu().numpy().reshape(prod(shape), part.shape[-1])
            for part in (top.index, top.value.float(), top.tail.float())
        )
        inside = value >= self.floor
        scale = _upwards(-value.min(1, where=inside, initial=0))
        step = (scale.astype(np.float32) / LEVELS)[:, None]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            code = np.where(step > 0, np.rint(-value / step), 0).clip(0, LEVELS)
        code = np.where(inside, code, np.where(value == -np.inf, NOTHING, FLOOR)).astype(np.uint32)
        broken = np.isnan(value).any(1) | np.isnan(tail).any(1)
        scale = np.where(broken, np.float16(np.nan), scale)
        tail = np.where(tail == -np.inf, tail, np.maximum(tail, self.floor))
        parts = (
            bits.pack(index, self.id_width), bits.pack_rising(np.maximum.accumulate(code, 1), WIDTH),
            _bytes(scale[:, None]), _bytes(tail),
        )  # fmt: skip
        return np.concatenate(parts, 1).reshape(*shape, self.size)

    def unpack(self, lines: np.ndarray) -> TopK:
        """The logits of lines ``[..., size]``: int64 ids, float32 values and tails."""
        shape = lines.shape[:-1]
        ids, codes, scales, tails = np.split(lines.reshape(-1, self.size), np.cumsum(self.sizes[:-1]), 1)
        code = bits.unpack_rising(codes, self.k, WIDTH)
        step = _halves(scales) / np.float32(LEVELS)
        value = np.float32(0) - code.astype(np.float32) * step
        if code[:, -1:].max(initial=0) > LEVELS:
            value = np.where(code == NOTHING, -np.inf, np.where(code == FLOOR, self.floor, value)).astype(np.float32)
            value = np.where(np.isnan(step), step, value)
        parts = (bits.unpack(ids, self.k, self.id_width).astype(np.int64), value, _halves(tails))
        index, values, tail = (torch.from_numpy(part.reshape(*shape, part.shape[-1])) for part in parts)
        return TopK(index, values, tail, self.temperatures)

    def error(self, top: TopK, temperature: float) -> float:
        """The largest error of ``value / temperature`` and of the tail that packing of ``top`` may make.

        Logits and tails below ``floor`` are left out.
        """
        value, tail = top.value.float(), top.at(temperature).float()
        scale = float(-value[value >= self.floor].min())
        largest = float(tail[tail >= self.floor].abs().max()) if bool((tail >= self.floor).any()) else 0.0
        step = 1.001 * scale / LEVELS + 2.0**-24 / LEVELS  # the scale was rounded up to a float16
        return max(step / 2 / temperature, 2.0**-11 * largest + 2.0**-25)


def kl_change(kl: float, error: float) -> float:
    """How far KL(p || q) moves at most, in nats, where each logit of p is off by at most ``error``.

    Each log-probability moves by at most 2e, for an error e, so that ``|p' - p| <= (exp(2e) - 1) p``. With
    ``r = log(p / q)``, ``KL' - KL = sum (p' - p) r + KL(p' || p)``. The first sum is at most ``(exp(2e) - 1)`` times
    ``sum p |r|``, which is at most ``KL + min(2, sqrt(2 KL))``, since ``sum p max(0, -r)`` is at most the total
    variation distance of p and q. The last term is at most ``e^2 / 2``. For a loss ``T^2 KL`` at temperature T, e is
    the error of the logits divided by T, and the loss moves by ``T^2`` times as much.

    Args:
        kl: the divergence, of the exact or of the inexact p; below 0 by rounding is 0.
        error: the largest error of a logit.

    Example: errors of 0.006 at a divergence of half a nat:
        >>> round(kl_change(0.5, 0.006), 4)
        0.0181

    Source: Hoeffding 1963, lemma 1, for the last term; Pinsker's inequality, Cover and Thomas 2006, lemma 11.6.1.
    """
    kl = max(kl, 0.0)
    return expm1(2 * error) * (kl + min(2.0, sqrt(2 * kl))) + error**2 / 2


def _upwards(values: np.ndarray) -> np.ndarray:
    """Numbers >= 0 as float16 that are no smaller."""
    halves = values.astype(np.float16)
    return np.where(halves < values, np.nextafter(halves, np.float16(np.inf)), halves)


def _bytes(halves: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(halves, "<f2").view(np.uint8)


def _halves(parts: np.ndarray) -> np.ndarray:
    """float16 numbers from their bytes, as float32."""
    return np.ascontiguousarray(parts).view("<f2").astype(np.float32)
