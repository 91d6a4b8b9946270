import pytest
import torch

from kdlab.loss.place import alike, pooled
from kdlab.output import Output


def output(tokens=None) -> Output:
    return Output(torch.zeros(2, 3), torch.ones(2, dtype=torch.bool), tokens=tokens)


def test_a_coarser_map_has_the_means_of_a_finer_one():
    maps = torch.arange(32.0).reshape(2, 16, 1)
    coarse = pooled(maps, 4)
    assert coarse.shape == (2, 4, 1)
    assert coarse[0, 0, 0] == maps[0, [0, 1, 4, 5], 0].mean() and coarse.mean() == maps.mean()
    torch.testing.assert_close(pooled(pooled(maps, 4), 16)[0, [0, 1, 4, 5], 0], coarse[0, 0].expand(4))


def test_the_finer_of_two_taps_is_pooled_whichever_it_is():
    fine, coarse = torch.randn(2, 16, 3), torch.randn(2, 4, 5)
    one, two = alike(fine, coarse, output())
    assert torch.equal(one, pooled(fine, 4)) and two is coarse
    one, two = alike(coarse, fine, output())
    assert one is coarse and torch.equal(two, pooled(fine, 4))


@pytest.mark.parametrize(
    ("one", "two", "tokens"),
    [
        ((2, 5, 3), (2, 4, 3), None),
        ((2, 3), (2, 4), None),
        ((2, 16, 3), (2, 4, 3), torch.ones(2, 16, dtype=torch.bool)),
    ],
    ids=["no square", "no map", "tokens"],
)
def test_others_stay_as_they_are(one, two, tokens):
    first, second = torch.randn(one), torch.randn(two)
    found = alike(first, second, output(tokens))
    assert found[0] is first and found[1] is second
