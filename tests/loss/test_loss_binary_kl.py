import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, rel_entr

from kdlab.loss.logit.binary_kl import BinaryKL, tempered_binary_kl
from kdlab.loss.logit.kl import tempered_kl


def pair(seed):
    return laws.output(seed=seed).logits, laws.output(seed=seed + 1).logits


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.25, 20))
def test_agrees_with_scipy_and_is_never_negative(seed, temperature):
    s, t = pair(seed)
    value = tempered_binary_kl(s, t, temperature)
    p, q = expit(t.detach().numpy() / temperature), expit(s.detach().numpy() / temperature)
    expected = temperature**2 * (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean(-1)
    torch.testing.assert_close(value.detach(), torch.tensor(expected), atol=1e-10, rtol=1e-6)
    laws.never_negative(lambda a, b: tempered_binary_kl(a, b, temperature), s, t)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_laws(temperature):
    def pure(a, b):
        return tempered_binary_kl(a, b, temperature)

    s, t = pair(0)
    laws.zero_at_equality(pure, s)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


def test_one_class_is_kl_over_yes_and_no():
    s, t = pair(5)
    two = [torch.stack([x[:, 0], torch.zeros_like(x[:, 0])], -1) for x in (s, t)]
    torch.testing.assert_close(tempered_binary_kl(s[:, :1], t[:, :1], 3.0), tempered_kl(*two, 3.0))


def test_masked_rows_do_not_matter():
    laws.masked_rows_do_not_matter(BinaryKL(), laws.output(mask=[True, False, True, True]), laws.output(seed=1))
