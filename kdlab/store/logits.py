"""What a store keeps of a teacher's logits: all of them, or the largest, as they are or packed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from kdlab.output import Output, at_least_float32
from kdlab.store.array import TYPES, tensor
from kdlab.store.packed import Packing
from kdlab.store.store import Store
from kdlab.top_k import TopK

CHUNK_BYTES = {"cpu": 2**24, "cuda": 2**28}  # of the logits in memory at a time; on the CPU they fit into its cache

Arrays = dict[str, tuple[str, np.ndarray]]


class LogitFormat(ABC):
    """How logits are stored, and read again."""

    all_at_once = False  # whether the logits of a whole batch are kept, so that parts of them save no memory

    @abstractmethod
    def tensors(self, output: Output, chunk: int | None) -> dict[str, Tensor]:
        """What is kept of the logits, by name, each ``[..., n]``.

        Args:
            chunk: the number of positions whose logits are in memory at a time; None: chosen by their size.
        """

    def packed(self, output: Output, arrays: Arrays) -> tuple[Arrays, Packing | None]:
        """The arrays of a chunk of a store, from those of :meth:`tensors` at the positions that are stored."""
        return arrays, None

    @abstractmethod
    def read(self, store: Store, rows: np.ndarray, length: int) -> tuple[Tensor, TopK | None]:
        """The logits of some rows, padded with 0, and the largest of them where only these are stored."""


@final
class AllLogits(LogitFormat):
    """All logits, in float32."""

    all_at_once = True

    def tensors(self, output: Output, chunk: int | None) -> dict[str, Tensor]:
        return {"logits": (output.logits if output.head is None else output.head(output.logits)).float()}

    def read(self, store: Store, rows: np.ndarray, length: int) -> tuple[Tensor, None]:
        return tensor(store.gather("logits", rows, length), store.dtype("logits")), None


@final
@dataclass(frozen=True)
class LargestLogits(LogitFormat):
    """The k largest logits in a floating-point type, their classes as int32, and the tails in float32.

    Attributes:
        k: their number.
        temperatures: at which the mass of the others is kept.
        dtype: of the logits.
    """

    k: int
    temperatures: tuple[float, ...]
    dtype: str

    def tensors(self, output: Output, chunk: int | None) -> dict[str, Tensor]:
        top = largest(output, chunk, self.k, self.temperatures).top
        assert top is not None
        return {"logits": top.value.to(TYPES[self.dtype]), "index": top.index.int(), "tail": top.tail}

    def read(self, store: Store, rows: np.ndarray, length: int) -> tuple[Tensor, TopK]:
        value, tail = (tensor(store.gather(name, rows, length), store.dtype(name)) for name in ("logits", "tail"))
        index = torch.from_numpy(store.gather("index", rows, length)).long()
        return value, TopK(index, value, tail, self.temperatures)


@final
@dataclass(frozen=True)
class PackedLogits(LogitFormat):
    """The k largest logits and the tails, packed by :class:`kdlab.store.packed.Packing`.

    Attributes:
        k: their number.
        temperatures: at which the mass of the others is kept.
    """

    k: int
    temperatures: tuple[float, ...]

    def tensors(self, output: Output, chunk: int | None) -> dict[str, Tensor]:
        return LargestLogits(self.k, self.temperatures, "float32").tensors(output, chunk)

    def packed(self, output: Output, arrays: Arrays) -> tuple[Arrays, Packing]:
        arrays = dict(arrays)
        kind, value = arrays.pop("logits")
        index, tail = (torch.from_numpy(arrays.pop(name)[1]) for name in ("index", "tail"))
        packing = Packing(value.shape[-1], classes(output), self.temperatures)
        lines = packing.pack(TopK(index, torch.from_numpy(value), tail, self.temperatures))
        return arrays | {"logits": (kind, lines)}, packing

    def read(self, store: Store, rows: np.ndarray, length: int) -> tuple[Tensor, TopK]:
        top = Packing.read(store.meta["packing"]).unpack(store.lines("logits", rows))
        if (kind := store.kind("logits")) != "row":
            real = torch.from_numpy(store.real(rows, length, kind))
            positions = real.flatten().nonzero()[:, 0]
            top = top.map(lambda part: spread(part, positions, real.shape))
        return top.value, top


def logit_format(top_k: int | None, temperatures: Sequence[float], dtype: str) -> LogitFormat:
    """The format for options of a teacher.

    Args:
        top_k: the number of largest logits; None: all.
        temperatures: at which the mass of the others is kept.
        dtype: ``packed``, or the floating-point type of the largest logits.
    """
    if top_k is None:
        return AllLogits()
    kept = tuple(float(one) for one in temperatures)
    return PackedLogits(top_k, kept) if dtype == "packed" else LargestLogits(top_k, kept, dtype)


def largest(output: Output, chunk: int | None, k: int, temperatures: Sequence[float]) -> Output:
    """The output with the k largest of its logits, made of some positions at a time.

    At positions that do not count, such as padding, the largest are 0.

    Args:
        chunk: the number of positions; None: as many as have logits of 16 MB, or of 256 MB on a GPU.
    """
    positions = output.positions
    if chunk is None:
        chunk = chunk_size(classes(output), output.logits.device)
    found = [TopK.of(at_least_float32(output.select(some).logits), k, temperatures) for some in positions.split(chunk)]
    parts = zip(*((one.index, one.value, one.tail) for one in found), strict=True)
    index, value, tail = (spread(torch.cat(part), positions, output.mask.shape) for part in parts)
    top = TopK(index, value, tail, tuple(float(one) for one in temperatures))
    return replace(output, logits=top.value, head=None, top=top)


def chunk_size(classes: int, device: torch.device) -> int:
    """The number of positions whose logits take ``CHUNK_BYTES`` in float32.

    Example:
        >>> chunk_size(49152, torch.device("cpu"))
        85
    """
    return max(1, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"]) // (4 * classes))


def classes(output: Output) -> int:
    """The number of classes of an output, whose logits may not be made yet."""
    return output.select(output.positions[:0]).logits.shape[-1]


def spread(values: Tensor, positions: Tensor, shape: Sequence[int]) -> Tensor:
    """``[*shape, n]``: lines ``[N, n]`` at their positions, and 0 elsewhere.

    Example:
        >>> spread(torch.tensor([[5.0]]), torch.tensor([1]), (1, 2)).tolist()
        [[[0.0], [5.0]]]
    """
    out = values.new_zeros(int(np.prod(shape)), values.shape[-1])
    return out.index_copy_(0, positions, values).view(*shape, -1)
