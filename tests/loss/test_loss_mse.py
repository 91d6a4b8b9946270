import laws
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.mse import LogitMSE, logit_mse


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 7))
def test_is_the_mean_squared_difference(seed, rows, classes):
    s, t = laws.pair(seed, classes, rows)
    expected = [
        np.mean([(a - b) ** 2 for a, b in zip(x, y, strict=True)]) for x, y in zip(s.tolist(), t.tolist(), strict=True)
    ]
    torch.testing.assert_close(logit_mse(s, t).detach(), torch.tensor(expected, dtype=torch.float64))


def test_laws():
    s, t = laws.pair(0)
    laws.zero_at_equality(logit_mse, s)
    laws.never_negative(logit_mse, s, t)
    laws.gradient_is_right(logit_mse, s, t)
    laws.stays_finite(logit_mse, s, t)


def test_is_twice_kl_at_infinite_temperature_for_centred_logits():
    s, t = (x - x.mean(-1, keepdim=True) for x in laws.pair(3, 5))
    torch.testing.assert_close(2 * tempered_kl(s, t, 1e5), logit_mse(s, t), rtol=1e-3, atol=1e-6)


def test_sees_a_shift_that_a_softmax_does_not():
    s, _ = laws.pair(0)
    torch.testing.assert_close(logit_mse(s + 3, s), torch.full((4,), 9.0, dtype=torch.float64))


def test_other_labels_are_told():
    with pytest.raises(UserError, match="labels"):
        LogitMSE()(laws.output(classes=3), laws.output(classes=4), 0.0)
