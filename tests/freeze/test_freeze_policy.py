from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.freeze.bottom import Bottom
from kdlab.freeze.decay import Decay
from kdlab.freeze.embeddings import Embeddings
from kdlab.freeze.gradual import Gradual
from kdlab.freeze.head import Head
from kdlab.freeze.none import Nothing

BLOCKS, PROGRESS = st.integers(2, 40), st.floats(0, 1)
POLICY = st.one_of(
    st.builds(Nothing),
    st.builds(Head),
    st.builds(Embeddings),
    st.builds(Bottom, st.just(0)),
    st.builds(Gradual, st.floats(0, 1)),
    st.builds(Decay, st.floats(0.1, 1)),
)


@given(POLICY, BLOCKS, PROGRESS)
def test_a_scale_for_each_block_growing_to_the_top(policy, blocks, progress):
    scales = policy.scales(blocks, progress)
    assert len(scales) == blocks
    assert list(scales) == sorted(scales)
    assert scales[-1] == 1 and scales[0] >= 0


@given(BLOCKS, PROGRESS)
def test_who_learns(blocks, progress):
    assert sum(Nothing().scales(blocks, progress)) == blocks
    assert sum(Head().scales(blocks, progress)) == 1
    assert Embeddings().scales(blocks, progress) == (0, *(1,) * (blocks - 1))
    assert Bottom(0).scales(blocks, progress) == Embeddings().scales(blocks, progress)
    assert Bottom(blocks - 2).scales(blocks, progress) == Head().scales(blocks, progress)


@given(st.floats(0, 1), BLOCKS, PROGRESS, PROGRESS)
def test_gradual_never_freezes_again(until, blocks, one, other):
    early, late = (Gradual(until).scales(blocks, moment) for moment in sorted((one, other)))
    assert all(before <= after for before, after in zip(early, late, strict=True))


@given(st.floats(0.01, 1), BLOCKS)
def test_gradual_goes_from_the_head_to_everything_one_block_at_a_time(until, blocks):
    policy = Gradual(until)
    assert sum(policy.scales(blocks, 0)) == 1
    assert sum(policy.scales(blocks, until)) == sum(policy.scales(blocks, 1)) == blocks
    moments = [until * (step + 0.5) / (blocks - 1) for step in range(blocks - 1)]
    assert [sum(policy.scales(blocks, moment)) for moment in moments] == list(range(1, blocks))


def test_gradual_until_0_learns_everything_at_once():
    assert Gradual(0).scales(5, 0) == (1,) * 5


@given(st.floats(0.1, 1), BLOCKS, PROGRESS)
def test_decay_is_the_same_factor_between_neighbours(factor, blocks, progress):
    scales = Decay(factor).scales(blocks, progress)
    assert all(low == pytest.approx(high * factor) for low, high in pairwise(scales))


def test_more_layers_than_there_are_is_told():
    with pytest.raises(UserError, match="the model has 4 layers"):
        Bottom(5).scales(6, 0)


@pytest.mark.parametrize(("policy", "value"), [(Bottom, -1), (Gradual, -0.1), (Gradual, 1.5), (Decay, 0), (Decay, 1.1)])
def test_values_out_of_range_are_told(policy, value):
    with pytest.raises(UserError):
        policy(value)
