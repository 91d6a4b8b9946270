from dataclasses import replace

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.output import Output, at_least_float32

masks = st.lists(st.booleans(), min_size=1, max_size=6)


def of(mask, tokens=None, count=None):
    mask = torch.tensor(mask)
    return Output(torch.zeros(*mask.shape, 3), mask, tokens=tokens, count=count)


@given(masks, st.integers(0, 100))
def test_mean_is_over_the_mask(mask, seed):
    values = torch.randn(len(mask), generator=torch.Generator().manual_seed(seed))
    expected = values[torch.tensor(mask)].mean() if any(mask) else torch.tensor(0.0)
    torch.testing.assert_close(of(mask).mean(values), expected)


def test_token_values_are_first_averaged_in_their_row():
    tokens = torch.tensor([[True, True, True], [True, False, False]])
    values = torch.tensor([[1.0, 2.0, 3.0], [10.0, 1e9, float("nan")]])
    assert of([True, True], tokens).mean(values) == (2 + 10) / 2
    assert of([True, False], tokens).mean(values) == 2


@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e30])
def test_what_the_mask_hides_reaches_neither_value_nor_gradient(rubbish):
    values = torch.tensor([1.0, rubbish, 3.0], requires_grad=True)
    mean = of([True, False, True]).mean(values)
    mean.backward()
    assert mean == 2
    assert values.grad.tolist() == [0.5, 0.0, 0.5]


@settings(max_examples=30)
@given(st.lists(masks, min_size=1, max_size=4), st.integers(0, 100))
def test_micro_batches_with_the_count_of_the_step_add_up(parts, seed):
    whole = [m for part in parts for m in part]
    values = torch.randn(len(whole), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    count = max(sum(whole), 1) / len(parts)
    pieces = values.split([len(part) for part in parts])
    means = [of(part, count=count).mean(piece) for part, piece in zip(parts, pieces, strict=True)]
    torch.testing.assert_close(torch.stack(means).mean(), of(whole).mean(values))


def test_restrict_narrows_the_mask_and_forgets_the_count():
    out = of([True, True, False], count=7.0)
    less = out.restrict(torch.tensor([True, False, True]))
    assert less.mask.tolist() == [True, False, False] and less.count is None
    assert out.restrict(torch.tensor([True, True, True]), count=2.0).mean(torch.ones(3)) == 1
    assert out.mask.tolist() == [True, True, False]


def test_another_shape_is_refused_rather_than_broadcast():
    out = laws.output(rows=4)
    for shape in ((1,), (4, 1), (4, laws.LENGTH + 1), ()):
        with pytest.raises(ValueError, match="match neither"):
            out.mean(torch.zeros(shape))
    with pytest.raises(ValueError, match="match neither"):
        replace(out, tokens=None).mean(torch.zeros(5, laws.LENGTH))


def test_axes_of_an_image_are_averaged_in_their_row():
    out = of([True, False, True])
    values = torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[9.0, 9.0], [9.0, 9.0]], [[0.0, 0.0], [0.0, 4.0]]])
    assert out.mean(values) == (3 + 1) / 2


def test_widen_never_narrows():
    assert at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_float32(torch.zeros(1, dtype=torch.float16)).dtype == torch.float32
    assert at_least_float32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
