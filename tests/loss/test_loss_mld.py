import laws
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, rel_entr

from kdlab.loss.logit.binary_kl import tempered_binary_kl
from kdlab.loss.logit.mld import MLD, one_versus_rest_kl


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 7))
def test_agrees_with_scipy(seed, classes):
    s, t = laws.pair(seed, classes)
    p, q = (expit(x.detach().numpy()) for x in (t, s))
    expected = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).sum(-1)
    torch.testing.assert_close(one_versus_rest_kl(s, t).detach(), torch.tensor(expected), atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(one_versus_rest_kl(s, t), classes * tempered_binary_kl(s, t, 1.0))


def test_laws():
    s, t = laws.pair(0)
    laws.zero_at_equality(one_versus_rest_kl, s)
    laws.never_negative(one_versus_rest_kl, s, t)
    laws.gradient_is_right(one_versus_rest_kl, s, t)
    laws.stays_finite(one_versus_rest_kl, s, t)


def test_is_averaged_over_the_rows_that_count():
    s, t = laws.output(mask=[True, False, True, True]), laws.output(seed=1)
    torch.testing.assert_close(MLD()(s, t, 0.0), one_versus_rest_kl(s.logits, t.logits)[s.mask].mean())
