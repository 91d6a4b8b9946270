"""Numbers come back from their bits, and take as few as they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kdlab.store.bits import WIDEST, pack, pack_rising, size, size_rising, unpack, unpack_rising


def numbers(draw: st.DataObject, width: int, most: int = 40) -> np.ndarray:
    shape = (draw.draw(st.integers(0, 5)), draw.draw(st.integers(1, most)))
    return draw.draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 2**width - 1)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, WIDEST), st.data())
def test_numbers_of_any_width_come_back(width, data):
    values = numbers(data, width)
    lines = pack(values, width)
    assert lines.dtype == np.uint8 and lines.shape == (len(values), size(values.shape[1], width))
    np.testing.assert_array_equal(unpack(lines, values.shape[1], width), values)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.data())
def test_rising_numbers_of_any_width_come_back(width, data):
    values = np.sort(numbers(data, width, 80), 1)
    lines = pack_rising(values, width)
    assert lines.dtype == np.uint8 and lines.shape == (len(values), size_rising(values.shape[1], width))
    np.testing.assert_array_equal(unpack_rising(lines, values.shape[1], width), values)
    assert size_rising(values.shape[1], width) <= size(values.shape[1], width + 1)


def test_what_follows_in_a_line_is_not_looked_at():
    values = np.array([[3, 5, 7]])
    for there, back in ((pack, unpack), (pack_rising, unpack_rising)):
        lines = np.concatenate([there(values, 4), np.full((1, 3), 255, np.uint8)], 1)
        np.testing.assert_array_equal(back(lines, 3, 4), values)


@pytest.mark.parametrize("change", [lambda lines: lines * 0, lambda lines: lines[::-1] ^ np.uint8(128)])
def test_bits_that_are_no_rising_numbers_are_refused(change):
    lines = pack_rising(np.array([[0, 9, 9], [1, 2, 15]]), 4)
    with pytest.raises(ValueError, match="damaged"):
        unpack_rising(change(lines), 3, 4)
