import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from kdlab.error import UserError
from kdlab.loss.logit.adaptive_kl import AdaptiveKL, adaptive_kl, head_share
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.reverse_kl import tempered_reverse_kl


def by_hand(p, q, head):
    """Class by class, from the teacher's most likely one down."""
    held, inside, outside = 0.0, 0.0, 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda i: -p[i])):
        held += p[index]
        if place == 0 or held <= head:
            inside += abs(p[index] - q[index])
        else:
            outside += abs(p[index] - q[index])
    share = inside / (inside + outside)
    return share * rel_entr(p, q).sum() + (1 - share) * rel_entr(q, p).sum()


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.25, 20), st.floats(0.05, 0.95), st.integers(2, 7))
def test_agrees_with_the_method_done_by_hand(seed, temperature, head, classes):
    s, t = laws.pair(seed, classes)
    p, q = (softmax(x.detach().numpy() / temperature, -1) for x in (t, s))
    expected = [temperature**2 * by_hand(a, b, head) for a, b in zip(p, q, strict=True)]
    value = adaptive_kl(s, t, temperature, head).detach()
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=1e-6)


def test_the_share_is_that_of_the_head():
    teacher = torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.2, 0.5], [0.3, 0.4, 0.3]])
    student = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.4, 0.5], [0.3, 0.4, 0.3]])
    share = head_share(student.log(), teacher.log(), 0.5)
    # the head of the first row is 0.6 alone, that of the second 0.5; the third has no error
    torch.testing.assert_close(share, torch.tensor([0.5, 0.0, 0.5]))


def test_laws():
    def pure(a, b):
        return adaptive_kl(a, b, 2.0, 0.5)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_the_gradient_takes_the_share_as_given():
    s, t = laws.pair(0, 5)
    share = head_share((s / 2).log_softmax(-1), (t / 2).log_softmax(-1), 0.5)
    assert not share.requires_grad
    mixed = share * tempered_kl(s, t, 2.0) + (1 - share) * tempered_reverse_kl(s, t, 2.0)
    value = adaptive_kl(s, t, 2.0, 0.5)
    torch.testing.assert_close(value, mixed)
    torch.testing.assert_close(*(torch.autograd.grad(x.sum(), s)[0] for x in (value, mixed)))


def test_head_and_temperature_matter():
    s, t = laws.output(8, 5, seed=0), laws.output(8, 5, seed=1)
    laws.all_differ([AdaptiveKL(temperature=T, head=head) for T in (1, 2) for head in (0.1, 0.5, 0.9)], s, t)


@pytest.mark.parametrize("head", [-0.1, 1.1, "most"])
def test_a_head_that_cannot_be_is_told(head):
    with pytest.raises(UserError, match="head"):
        AdaptiveKL(head=head)
