import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import mse_loss

from kdlab.error import UserError
from kdlab.loss.feature.hint import Hint, squared_difference
from kdlab.loss.term import ModelSpec


def test_laws():
    s, t = laws.output(seed=0).taps["hidden.0"], laws.output(seed=1).taps["hidden.0"]
    laws.zero_at_equality(squared_difference, s)
    laws.never_negative(squared_difference, s, t)
    laws.gradient_is_right(squared_difference, s, t)
    laws.stays_finite(squared_difference, s, t)


@pytest.mark.parametrize("tap", ["hidden.0", "pooled"])
def test_is_the_mean_over_rows_of_the_mean_over_real_tokens(tap):
    s, t = laws.output(seed=0), laws.output(seed=1)
    term = Hint(taps={"student": tap, "teacher": tap})
    rows = [
        mse_loss(s.taps[tap][i][s.tokens[i]] if tap != "pooled" else s.taps[tap][i],
                 t.taps[tap][i][s.tokens[i]] if tap != "pooled" else t.taps[tap][i])
        for i in range(4)
    ]  # fmt: skip
    torch.testing.assert_close(term(s, t, 0.0), torch.stack(rows).mean())


@pytest.mark.parametrize("tap", ["hidden.-1", "pooled"])
def test_masked_rows_and_padding_do_not_matter(tap):
    term = Hint(taps={"student": tap, "teacher": tap})
    laws.masked_rows_do_not_matter(term, laws.output(mask=[True, False, True, True]), laws.output(seed=1))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8))
def test_a_projection_is_made_exactly_where_widths_differ(mine, theirs):
    term = Hint()
    term.build_adapters(ModelSpec({"hidden.-1": mine}), ModelSpec({"hidden.-1": theirs}), 8)
    assert isinstance(term.adapter, nn.Identity if mine == theirs else nn.Linear)
    s, t = laws.output(seed=0, width=mine, dtype=torch.float32), laws.output(seed=1, width=theirs, dtype=torch.float32)
    value = term(s, t, 0.0)
    assert value.isfinite()
    value.backward()
    assert all(p.grad.abs().sum() > 0 for p in term.parameters())


def test_the_projection_learns_a_linear_map_of_the_student():
    torch.manual_seed(0)
    s = laws.output(seed=0, rows=8, width=4, dtype=torch.float32)
    t = laws.output(seed=1, rows=8, width=6, dtype=torch.float32)
    goal = nn.Linear(4, 6)
    t.taps["hidden.-1"] = goal(s.taps["hidden.-1"]).detach()
    term = Hint()
    term.build_adapters(ModelSpec({"hidden.-1": 4}), ModelSpec({"hidden.-1": 6}), 8)
    first = term(s, t, 0.0).item()
    optimizer = torch.optim.Adam(term.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        term(s, t, 0.0).backward()
        optimizer.step()
    assert term(s, t, 0.0) < 0.01 * first


def test_what_cannot_be_compared_is_told():
    s, t = laws.output(), laws.output(seed=1)
    t.taps["hidden.-1"] = t.taps["hidden.-1"][:, :-1]
    with pytest.raises(UserError, match="same tokenizer"):
        Hint()(s, t, 0.0)
    with pytest.raises(UserError, match=r"hidden\.7.*pooled"):
        Hint(taps={"student": "hidden.7", "teacher": "pooled"})(s, t, 0.0)
    with pytest.raises(UserError, match=r"teacher's tap 'hidden\.-1'.*none"):
        Hint().build_adapters(ModelSpec({"hidden.-1": 3}), ModelSpec(), 8)
    for taps in ({"student": "pooled"}, {"student": "pooled", "techer": "pooled"}, {"student": 1, "teacher": "pooled"}):
        with pytest.raises(UserError, match="taps"):
            Hint(taps=taps)
