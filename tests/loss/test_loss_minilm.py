import laws
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from kdlab.error import UserError
from kdlab.loss.relation.minilm import MiniLM, attention_divergence
from kdlab.loss.term import ModelSpec

KINDS = ("query", "key", "value")
TAPS = [f"{kind}.-1" for kind in KINDS]
WIDTHS = dict.fromkeys(TAPS, 4)


def sides(mine=2, theirs=2):
    return ModelSpec(WIDTHS, heads=mine), ModelSpec(WIDTHS, heads=theirs)


def outputs(**kind):
    return laws.output(width=4, taps=TAPS, **kind), laws.output(width=8, taps=TAPS, seed=1)


def written_out(student, teacher, tokens, heads, causal=False):
    """Wang et al. 2020 for one row: mean over heads and real tokens of both KLs, with loops and scipy."""
    real = [p for p in range(len(tokens)) if tokens[p]]
    total = 0.0
    for left, right in (("query.-1", "key.-1"), ("value.-1", "value.-1")):
        for head in range(heads):
            for p in real:
                rows = []
                for taps in (teacher, student):
                    size = taps[left].shape[-1] // heads
                    part = slice(head * size, (head + 1) * size)
                    seen = [o for o in real if o <= p or not causal]
                    dots = [float(taps[left][p, part] @ taps[right][o, part]) / np.sqrt(size) for o in seen]
                    rows.append(softmax(dots))
                total += rel_entr(*rows).sum()
    return total / heads / len(real)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 2, 4]), st.booleans())
def test_is_the_formula_of_the_paper(seed, heads, causal):
    s, t = laws.output(width=4, taps=TAPS, seed=seed, rows=3), laws.output(width=8, taps=TAPS, seed=seed + 1, rows=3)
    term = MiniLM(causal=causal)
    term.build_adapters(*sides(heads, heads), 8)
    rows = [
        written_out({n: x[i].detach() for n, x in s.taps.items()}, {n: x[i].detach() for n, x in t.taps.items()},
                    s.tokens[i], heads, causal)
        for i in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(term(s, t, 0.0).item(), float(np.mean(rows)))


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_laws(causal):
    s, t = laws.output(width=4, taps=TAPS), laws.output(width=4, taps=TAPS, seed=1)
    mine, theirs = (torch.stack([out.taps[name].detach() for name in TAPS]) for out in (s, t))

    def pure(a, b):
        return attention_divergence(tuple(a), tuple(b), s.tokens, 2, causal)

    laws.zero_at_equality(pure, mine)
    laws.never_negative(pure, mine, theirs)
    laws.gradient_is_right(pure, mine.requires_grad_(), theirs.requires_grad_())
    laws.stays_finite(pure, mine, theirs)


def test_is_free_of_a_shift_of_all_keys():
    """Softmax takes no notice of what all keys have in common, which a difference of the keys themselves would."""
    s, t = outputs()
    term = MiniLM()
    term.build_adapters(*sides(), 8)
    value = term(s, t, 0.0)
    s.taps["key.-1"] = s.taps["key.-1"] + torch.arange(4)
    torch.testing.assert_close(term(s, t, 0.0), value)
    s.taps["value.-1"] = 2 * s.taps["value.-1"]
    assert not torch.isclose(term(s, t, 0.0), value)


@pytest.mark.parametrize("causal", [False, True])
def test_masked_rows_and_padding_do_not_matter(causal):
    term = MiniLM(causal=causal)
    term.build_adapters(*sides(), 8)
    laws.masked_rows_do_not_matter(term, *outputs(mask=[True, False, True, True]))


def test_a_decoders_token_takes_no_notice_of_what_follows():
    s, t = outputs()
    term = MiniLM(causal=True)
    term.build_adapters(*sides(), 8)
    each = attention_divergence(*(tuple(out.taps[name] for name in TAPS) for out in (s, t)), s.tokens, 2, causal=True)
    (gradient,) = torch.autograd.grad(each[1, 1], s.taps["value.-1"])
    assert (gradient[1, 2:] == 0).all() and gradient[1, :2].abs().sum() > 0
    assert (each[:, 0] == 0).all(), "the first token sees itself alone"


def test_layers_are_taps():
    assert MiniLM(student=1, teacher=-2).taps == {
        "student": ("query.1", "key.1", "value.1"), "teacher": ("query.-2", "key.-2", "value.-2"),
    }  # fmt: skip


def test_what_cannot_be_compared_is_told():
    for heads in ((2, 4), (0, 0)):
        with pytest.raises(UserError, match=r"head by head.*minilmv2"):
            MiniLM().build_adapters(*sides(*heads), 8)
    for layer in ("last", 1.5, True):
        with pytest.raises(UserError, match="number of a layer"):
            MiniLM(teacher=layer)
    s, t = outputs()
    t.taps.update({name: tap[:, :-1] for name, tap in t.taps.items()})
    with pytest.raises(UserError, match="a vector for each of the tokens"):
        MiniLM()(s, t, 0.0)
    with pytest.raises(UserError, match="same tokenizer"):
        MiniLM()(s, laws.replace(t, tokens=t.tokens[:, :-1]), 0.0)
