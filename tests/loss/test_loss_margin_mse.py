from dataclasses import replace

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.loss.logit.margin_mse import MarginMSE, margin_mse


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 7))
def test_agrees_with_margins_one_by_one(seed, classes):
    s, t = laws.pair(seed, classes)
    label = (torch.arange(4) % classes).tolist()
    for row, (own, goal, y) in enumerate(zip(s.tolist(), t.tolist(), label, strict=True)):
        others = [c for c in range(classes) if c != y]
        expected = sum(((own[y] - own[c]) - (goal[y] - goal[c])) ** 2 for c in others) / len(others)
        assert margin_mse(s, t, torch.tensor(label))[row].item() == pytest.approx(expected)


def test_two_candidates_are_the_papers_loss():
    """MSE(S(q, p+) - S(q, p-), T(q, p+) - T(q, p-)) over the triples of a batch."""
    s, t = laws.output(classes=2, seed=0), laws.output(classes=2, seed=1)
    first = replace(s, label=torch.zeros(4, dtype=torch.long))
    margins = [x.logits[:, 0] - x.logits[:, 1] for x in (s, t)]
    torch.testing.assert_close(MarginMSE()(first, t, 0.0), torch.nn.functional.mse_loss(*margins))


def test_laws():
    label = torch.tensor([0, 1, 2, 0])

    def pure(a, b):
        return margin_mse(a, b, label)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_rows_without_a_label_take_the_teachers_class():
    s, t = laws.output(seed=0), laws.output(seed=1)
    none, likely = replace(s, label=-torch.ones_like(s.label)), replace(s, label=t.logits.argmax(-1))
    torch.testing.assert_close(MarginMSE()(none, t, 0.0), MarginMSE()(likely, t, 0.0))
    assert MarginMSE()(none, t, 0.0) != MarginMSE()(s, t, 0.0)
