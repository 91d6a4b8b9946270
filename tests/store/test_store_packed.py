"""Packed logits: ids, their order and -inf are exact, and a divergence moves by no more than the stated bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.loss.logit.top_k_kl import coarsened_kl
from kdlab.store.packed import LOWEST, Packing, kl_change
from kdlab.top_k import TEMPERATURES, TopK

SCALES = [0.0, 1e-6, 1e-2, 1.0, 4.0, 30.0, 1e5]


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def packed(top: TopK, classes: int) -> tuple[Packing, TopK]:
    packing = Packing(top.index.shape[-1], classes, top.temperatures)
    lines = packing.pack(top)
    assert lines.shape == (*top.index.shape[:-1], packing.size)
    return packing, packing.unpack(lines)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), shape=st.lists(st.integers(0, 4), max_size=2), classes=st.integers(1, 200),
    k=st.integers(1, 260), scale=st.sampled_from(SCALES), masked=st.floats(0, 1), ties=st.booleans(),
)  # fmt: skip
def test_any_logits_come_back_in_their_order_each_near_what_it_was(seed, shape, classes, k, scale, masked, ties):
    logits = scale * random(seed, *shape, classes)
    logits = logits.round() if ties else logits
    out = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed)) < masked
    logits = logits.masked_fill(out.index_fill(-1, torch.tensor(0), False), -torch.inf)
    top = TopK.of(logits, k)
    packing, found = packed(top, classes)
    assert torch.equal(found.index, top.index) and found.index.dtype == torch.int64
    assert (found.value[..., 0] == 0).all() and (found.value.diff(dim=-1).nan_to_num() <= 0).all()
    assert torch.equal(found.value == -torch.inf, top.value == -torch.inf)
    assert torch.equal(found.tail == -torch.inf, top.tail == -torch.inf)
    inside = top.value >= packing.floor
    largest = top.value.where(inside, 0).amin(-1, keepdim=True).abs().clamp(min=1e-30)
    near = (found.value - top.value).abs() <= largest * (0.501 / 1021 * 1.001 + 1e-6) + 1e-10
    assert (near | ~inside).all()
    assert (found.value[~inside & (top.value > -torch.inf)] == packing.floor).all()
    tails, kept = top.tail.clamp(min=packing.floor), top.tail > -torch.inf
    torch.testing.assert_close(found.tail[kept], tails[kept], rtol=2**-11, atol=2**-25)


@pytest.mark.parametrize("classes", [2**8, 2**8 + 1, 30_522, 49_152, 50_257, 2**17, 2**18])
def test_every_class_of_a_large_vocabulary_comes_back(classes):
    index = torch.stack([torch.arange(64), classes - 1 - torch.arange(64)])
    top = TopK(index, -random(0, 2, 64).abs().cumsum(-1), torch.zeros(2, 4), TEMPERATURES)
    _, found = packed(TopK(index, top.value - top.value[:, :1], top.tail, TEMPERATURES), classes)
    assert torch.equal(found.index, index)


@pytest.mark.parametrize(("classes", "size"), [(30_522, 178), (49_152, 186), (128_256, 194), (151_936, 202)])
def test_the_bytes_of_64_logits(classes, size):
    assert Packing(64, classes, TEMPERATURES).size == size


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), classes=st.integers(2, 80), k=st.integers(1, 64), scale=st.sampled_from(SCALES[:-1]),
    apart=st.floats(0, 8), temperature=st.sampled_from(TEMPERATURES),
)  # fmt: skip
def test_a_divergence_moves_by_no_more_than_its_bound(seed, classes, k, scale, apart, temperature):
    teacher = scale * random(seed, 5, classes)
    student = (teacher + apart * random(seed + 1, 5, classes)).double()
    top = TopK.of(teacher, k)
    packing, found = packed(top, classes)

    def divergence(given: TopK) -> torch.Tensor:
        parts = given.map(lambda part: part.double() if part.is_floating_point() else part)
        return coarsened_kl(student, parts.index, parts.value, parts.at(temperature), temperature)

    exact, coded = divergence(top), divergence(found)
    error = packing.error(top, temperature)
    for one, two in zip(exact.tolist(), coded.tolist(), strict=True):
        bound = temperature**2 * kl_change(one / temperature**2, error)
        assert abs(one - two) <= bound + 1e-5 * (1 + one), (one, two, bound)


def test_the_bound_is_no_more_than_three_times_what_can_happen():
    """Two outcomes whose logits are wrong in opposite directions."""
    error, teacher, student = 1e-3, torch.zeros(2).double(), torch.tensor([0.0, 6.0]).double()
    index, apart = torch.tensor([0, 1]), error * torch.tensor([1.0, -1.0])
    exact, one, two = (
        float(coarsened_kl(student, index, teacher + shift, torch.tensor(-torch.inf), 1.0))
        for shift in (torch.zeros(2), apart, -apart)
    )
    assert kl_change(exact, error) / 3 < max(abs(one - exact), abs(two - exact)) < kl_change(exact, error)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_broken_teacher_stays_broken(bad):
    logits = random(0, 3, 9)
    logits[1, 4] = bad
    _, found = packed(TopK.of(logits, 4), 9)
    assert found.value[1].isnan().all() and found.value[[0, 2]].isfinite().all()


def test_classes_that_a_teacher_masks_with_a_large_number_cost_the_others_nothing():
    logits = torch.cat([random(0, 2, 8), torch.full((2, 8), torch.finfo(torch.float32).min)], -1)
    top = TopK.of(logits, 12)
    packing, found = packed(top, 16)
    assert (found.value[:, 8:] == packing.floor).all() and packing.floor == -LOWEST * 8
    torch.testing.assert_close(found.value[:, :8], top.value[:, :8], rtol=0, atol=4e-3)


def test_another_temperature_takes_the_tail_that_was_computed_at_it():
    """log softmax(z / T) is not log softmax(z) / T, so that the tail at 1 is of no use at another T."""
    top = TopK.of(torch.tensor([2.0, 0.0]), 1, [1.0, 0.5])
    _, found = packed(top, 2)
    outcomes = torch.stack([found.value[0] / 0.5, found.at(0.5)]).log_softmax(-1)
    torch.testing.assert_close(outcomes, torch.tensor([-0.0181, -4.0181]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("k", "classes"), [(0, 4), (5, 4), (1, 2**25 + 1)])
def test_what_cannot_be_packed_is_refused(k, classes):
    with pytest.raises(ValueError, match="cannot be packed"):
        Packing(k, classes, (1.0,))
