"""Whole numbers in as few bits as they need: of one width, or of rising sequences; vectorised over lines."""

from __future__ import annotations

import numpy as np

WIDEST = 25  # bits of a number: with a shift of up to 7 it lies in one word of 32


def size(count: int, width: int) -> int:
    """The bytes of ``count`` numbers of ``width`` bits.

    Example:
        >>> size(64, 17)
        136
    """
    return -(-count * width // 8)


def pack(values: np.ndarray, width: int) -> np.ndarray:
    """``[N, count]`` numbers below ``2 ** width`` as ``[N, size]`` uint8, the lowest bit first.

    Args:
        width: 0 to 25 bits.

    Example: 1 + 2 * 8 + 3 * 64, of which the ninth bit is 0:
        >>> pack(np.array([[1, 2, 3]]), 3)
        array([[209,   0]], dtype=uint8)
    """
    return np.packbits(_bits(values, width), axis=1, bitorder="little")


def unpack(lines: np.ndarray, count: int, width: int) -> np.ndarray:
    """The ``[N, count]`` uint32 numbers that :func:`pack` put into the first bytes of lines ``[N, bytes]``.

    Example:
        >>> unpack(np.array([[209, 0]], np.uint8), 3, 3)
        array([[1, 2, 3]], dtype=uint32)
    """
    first, bytes_a_line = width * np.arange(count), size(count, width)
    padded = np.zeros((len(lines), bytes_a_line + 4), np.uint8)
    padded[:, :bytes_a_line] = lines[:, :bytes_a_line]
    # a word of 32 bits begins at every byte
    words = np.ndarray((len(lines), bytes_a_line + 1), "<u4", padded, strides=(bytes_a_line + 4, 1))
    return words[:, first // 8] >> (first % 8).astype(np.uint32) & np.uint32((1 << width) - 1)


def size_rising(count: int, width: int) -> int:
    """The bytes of ``count`` rising numbers of ``width`` bits.

    Example: 64 numbers below 1024 take 6 bits each:
        >>> size_rising(64, 10)
        48
    """
    low = _low(count, width)
    return -(-(count * low + _unary(count, width - low)) // 8)


def pack_rising(values: np.ndarray, width: int) -> np.ndarray:
    """``[N, count]`` numbers below ``2 ** width``, none below the one before it, as ``[N, size_rising]`` uint8.

    The low bits of each number are kept as they are. The high bits are kept as a row of bits, with a 1 for each number
    and before it a 0 for each step upwards.

    Args:
        width: 0 to 25 bits.

    Example:
        >>> pack_rising(np.array([[0, 1, 3, 3]]), 2)
        array([[101]], dtype=uint8)

    Source: Elias 1974, Efficient storage and retrieval by content and address of static files, J. ACM 21(2);
        Fano 1971, On the number of bits required to implement an associative memory, MIT Project MAC.
    """
    count = values.shape[1]
    low = _low(count, width)
    unary = np.zeros((len(values), _unary(count, width - low)), np.uint8)
    np.put_along_axis(unary, (values.astype(np.int64) >> low) + np.arange(count), 1, 1)
    return np.packbits(np.concatenate([_bits(values, low), unary], 1), axis=1, bitorder="little")


def unpack_rising(lines: np.ndarray, count: int, width: int) -> np.ndarray:
    """The ``[N, count]`` uint32 numbers that :func:`pack_rising` put into the first bytes of lines ``[N, bytes]``.

    Raises:
        ValueError: the bytes are of no such numbers.

    Example:
        >>> unpack_rising(np.array([[101]], np.uint8), 4, 2)
        array([[0, 1, 3, 3]], dtype=uint32)
    """
    low = _low(count, width)
    skipped, spare = divmod(count * low, 8)
    bits = np.unpackbits(lines[:, skipped : size_rising(count, width)], axis=1, bitorder="little")
    ones = np.ascontiguousarray(bits[:, spare : spare + _unary(count, width - low)]).view(bool)
    places, wide = np.flatnonzero(ones), ones.shape[1]
    if len(places) != len(lines) * count:
        raise ValueError("the bits of rising numbers are damaged")
    places = places.reshape(len(lines), count) - wide * np.arange(len(lines))[:, None]
    if places.size and not 0 <= places.min() <= places.max() < wide:  # too many in one line, too few in another
        raise ValueError("the bits of rising numbers are damaged")
    return (places - np.arange(count)).astype(np.uint32) << np.uint32(low) | unpack(lines, count, low)


def _low(count: int, width: int) -> int:
    """The number of low bits that are kept as they are, for the fewest bits in all."""
    return min(range(width + 1), key=lambda low: count * low + _unary(count, width - low))


def _unary(count: int, width: int) -> int:
    """The bits of ``count`` rising numbers below ``2 ** width`` as zeros and ones."""
    return count + 2**width - 1


def _bits(values: np.ndarray, width: int) -> np.ndarray:
    """``[N, count * width]`` uint8 zeros and ones."""
    parts = np.ascontiguousarray(values, "<u4").view(np.uint8).reshape(*values.shape, 4)
    bits = np.unpackbits(parts, axis=2, count=width, bitorder="little")
    return bits.reshape(len(values), values.shape[1] * width)
