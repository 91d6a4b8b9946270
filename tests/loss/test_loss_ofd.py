import laws
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import features, ready, rows

from kdlab.loss.feature.ofd import OFD, partial_difference
from kdlab.output import Output

MARGIN = -torch.tensor([0.0, 0.2, 0.5, 1.0, 2.0, 3.0], dtype=torch.float64)


def pure(s, t):
    return partial_difference(s, t, MARGIN)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_is_the_formula_of_the_paper(seed):
    s, t = features(seed), features(seed + 1)
    for own, goal, value in zip(s.flatten(0, 1), t.flatten(0, 1), pure(s, t).flatten(), strict=True):
        total = 0.0
        for x, y, m in zip(own.tolist(), goal.tolist(), MARGIN.tolist(), strict=True):
            target = max(y, m)
            total += 0.0 if x <= target <= 0 else (target - x) ** 2
        torch.testing.assert_close(value.item(), total / 6)


def test_laws():
    s, t = features(0), features(1)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(lambda a, b: partial_difference(a, b, MARGIN.float()), s, t)
    low = -t.abs()
    assert (pure(low - 5, low) == 0).all(), "below what the teacher cuts off nothing is owed"


def negative_mean(output, tap):
    """The mean of each feature where it is negative, over the real tokens."""
    every = torch.cat(rows(output, tap))
    return torch.stack(
        [column[column < 0].mean() if (column < 0).any() else column.new_zeros(()) for column in every.T]
    )


def test_the_margin_is_the_mean_of_the_negative_part_of_all_that_was_seen():
    term, s, t = ready(OFD(layer_map="top"))
    later = laws.output(seed=9, width=6, taps=["hidden.3"])
    (adapter,) = term.adapters
    own = adapter.connector(s.taps["hidden.1"])
    first = s.mean(partial_difference(own, t.taps["hidden.3"], negative_mean(t, "hidden.3")))
    torch.testing.assert_close(term(s, t, 0.0), first)
    both = Output(
        t.logits, t.mask, {"h": torch.cat([t.taps["hidden.3"], later.taps["hidden.3"]])}, torch.cat([t.tokens] * 2)
    )
    second = s.mean(partial_difference(own, later.taps["hidden.3"], negative_mean(both, "h")))
    torch.testing.assert_close(term(s, later, 0.0), second)


def test_eval_mode_leaves_no_trace():
    term, s, t = ready(OFD())
    with torch.no_grad():
        one = term.eval()(s, t, 0.0)
    assert all((buffer == 0).all() for buffer in term.buffers())
    torch.testing.assert_close(term.train()(s, t, 0.0), one)
    assert all((buffer != 0).any() for buffer in term.buffers())
    assert not term.row_wise and {name.split(".")[-1] for name in term.state_dict()} == {
        "weight", "bias", "total", "count"
    }  # fmt: skip


def test_rows_without_influence_have_none_on_the_margin():
    term, s, t = ready(OFD(), mask=[True, False, True, True])
    term(s, t, 0.0)
    before = {name: value.clone() for name, value in term.state_dict().items()}
    other, _, _ = ready(OFD(), mask=[True, False, True, True])
    with torch.no_grad():
        for tap in t.taps.values():
            tap[1] = -100.0
            tap[~t.tokens] = -100.0
    other(s, t, 0.0)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
