import laws
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from kdlab.error import UserError
from kdlab.loss.relation.minilmv2 import MiniLMv2, self_relation_divergence
from kdlab.loss.term import ModelSpec

TAPS = ["query.-1", "key.-1", "value.-1"]


def connected(heads=None, mine=4, theirs=8, own=2, **setting):
    term = MiniLMv2(heads=heads, **setting)
    term.build_adapters(
        ModelSpec(dict.fromkeys(TAPS, mine), heads=1), ModelSpec(dict.fromkeys(TAPS, theirs), heads=own), 8
    )
    return term


def outputs(**kind):
    return laws.output(width=4, taps=TAPS, **kind), laws.output(width=8, taps=TAPS, seed=1)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 2, 4]))
def test_is_the_formula_of_the_paper(seed, heads):
    """Sum over Q, K and V of the mean over rows, heads and real tokens of the KL of R = softmax(A A^T / sqrt(d))."""
    s, t = laws.output(width=4, taps=TAPS, seed=seed, rows=3), laws.output(width=8, taps=TAPS, seed=seed + 1, rows=3)
    rows = []
    for row in range(3):
        total, real = 0.0, s.tokens[row]
        for name in TAPS:
            for head in range(heads):
                relation = []
                for out in (t, s):
                    part = np.split(out.taps[name][row][real].detach().numpy(), heads, -1)[head]
                    relation.append(softmax(part @ part.T / np.sqrt(part.shape[-1]), -1))
                total += rel_entr(*relation).sum(-1).mean() / heads
        rows.append(total)
    torch.testing.assert_close(connected(heads)(s, t, 0.0).item(), float(np.mean(rows)))


def test_laws():
    s, t = laws.output(width=4, taps=TAPS), laws.output(width=4, taps=TAPS, seed=1)

    def pure(a, b):
        return self_relation_divergence(a, b, s.tokens, 2)

    mine, theirs = s.taps["key.-1"], t.taps["key.-1"]
    laws.zero_at_equality(pure, mine)
    laws.never_negative(pure, mine, theirs)
    laws.gradient_is_right(pure, mine, theirs)
    laws.stays_finite(pure, mine, theirs)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 2]))
def test_is_free_of_a_rotation_of_every_head(seed, heads):
    s, t = outputs(seed=seed)
    mine, theirs = s.taps["query.-1"], t.taps["query.-1"]
    value = self_relation_divergence(mine, theirs, s.tokens, heads)
    generator = torch.Generator().manual_seed(seed)
    turns = [torch.linalg.qr(torch.randn(4 // heads, 4 // heads, dtype=torch.float64, generator=generator))[0]
             for _ in range(heads)]  # fmt: skip
    turned = self_relation_divergence(mine @ torch.block_diag(*turns), theirs, s.tokens, heads)
    torch.testing.assert_close(turned, value)


def test_heads_are_any_number_that_divides_both_widths_and_the_teachers_own_by_default():
    s, t = outputs()
    values = {heads: connected(heads)(s, t, 0.0).item() for heads in (1, 2, 4)}
    assert len(set(values.values())) == 3
    assert connected(None, own=4)(s, t, 0.0).item() == values[4]


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_each_relation_has_its_weight_and_one_of_0_is_not_read(name):
    s, t = outputs()
    alone = {"query": 0.0, "key": 0.0, "value": 0.0} | {name: 1.0}
    one = connected(2, **alone)
    assert one.taps == {"student": (f"{name}.-1",), "teacher": (f"{name}.-1",)}
    more = connected(2, **{name: 3.0})(s, t, 0.0) - connected(2)(s, t, 0.0)
    torch.testing.assert_close(more, 2 * one(s, t, 0.0))


def test_masked_rows_and_padding_do_not_matter():
    for causal in (False, True):
        laws.masked_rows_do_not_matter(connected(2, causal=causal), *outputs(mask=[True, False, True, True]))


def test_what_cannot_be_compared_is_told():
    with pytest.raises(UserError, match=r"width 6 and the teacher's 8 into 4 relation heads.*one of 1, 2\."):
        connected(4, mine=6)
    with pytest.raises(UserError, match="relation heads"):
        connected(None, own=3)
    for setting in ({"query": -1}, {"query": 0, "key": 0, "value": 0}):
        with pytest.raises(UserError, match="weights of the relations"):
            MiniLMv2(**setting)
    for heads in (0, 1.5, "many"):
        with pytest.raises(UserError, match="heads is"):
            MiniLMv2(heads=heads)
