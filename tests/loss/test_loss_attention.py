import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import ready
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from kdlab.error import UserError
from kdlab.loss.feature.attention import OF, Attention, attention_difference
from kdlab.model.tap import read
from tests.batches import text


def attention(seed=0, heads=2, rows=3, length=5, scale=1.0):
    """Scores and the probabilities they give, with padding; and the real tokens."""
    draw = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(rows, heads, length, length, generator=draw, dtype=torch.float64)
    tokens = torch.arange(length) < torch.tensor([5, 3, 1])[:rows, None]
    return scores, scores.masked_fill(~tokens[:, None, None], -torch.inf).softmax(-1), tokens


def written_out(own, goal, tokens, of):
    """Equation 7 for each row without its padding, from the scores."""
    values = []
    for s, t, real in zip(own, goal, tokens, strict=True):
        s, t = s[:, real][:, :, real], t[:, real][:, :, real]
        if of == "scores":
            s, t = (x - x.mean(-1, keepdim=True) for x in (s, t))
        else:
            s, t = s.softmax(-1), t.softmax(-1)
        if len(s) != len(t):
            s, t = s.mean(0), t.mean(0)
        values.append((s - t).square().mean())
    return torch.stack(values)


@pytest.mark.parametrize("of", OF)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), heads=st.sampled_from([1, 2, 4]), others=st.sampled_from([1, 2, 3]))
def test_is_the_formula_of_the_paper(of, seed, heads, others):
    s, p, tokens = attention(seed, heads)
    t, q, _ = attention(seed + 1, others)
    torch.testing.assert_close(attention_difference(p, q, tokens, of), written_out(s, t, tokens, of))


@pytest.mark.parametrize("of", OF)
@pytest.mark.parametrize("heads", [2, 3])
def test_laws(of, heads):
    (_, p, tokens), (_, q, _) = attention(0), attention(1, heads)

    def pure(s, t):
        return attention_difference(s, t, tokens, of)

    laws.zero_at_equality(pure, p)
    laws.never_negative(pure, p, q)
    whole = torch.ones(3, 5, dtype=torch.bool)
    own, goal = (attention(i, h)[0].softmax(-1).requires_grad_() for i, h in ((0, 2), (1, heads)))
    laws.gradient_is_right(lambda s, t: attention_difference(s, t, whole, of), own, goal)


@pytest.mark.parametrize("of", OF)
def test_stays_finite_where_attention_is_all_on_one_token(of):
    for dtype in (torch.float32, torch.bfloat16):
        p, q, tokens = attention(0, scale=1e4)[1], attention(1, scale=1e4)[1], attention()[2]
        own = p.to(dtype).requires_grad_()
        value = attention_difference(own, q.to(dtype), tokens, of)
        (gradient,) = torch.autograd.grad(value.sum(), own)
        assert value.dtype == torch.float32 and value.isfinite().all() and gradient.isfinite().all()


def test_scores_are_free_of_a_shift_a_query_and_of_dropouts_rescaling():
    s, p, tokens = attention(0)
    t, q, _ = attention(1)
    torch.testing.assert_close(attention_difference(p, q / 0.9, tokens, "scores"), written_out(s, t, tokens, "scores"))


def test_what_dropout_took_away_does_not_count():
    _, p, tokens = attention(0)
    _, q, _ = attention(1)
    dropped = p.clone()
    dropped[:, :, :, 0] = 0
    value = attention_difference(dropped, q, tokens, "scores")
    assert value[2] == 0, "a row of one token has nothing left"
    assert value[0].isfinite() and value[0] > 0


@pytest.mark.parametrize("of", OF)
def test_masked_rows_and_padding_do_not_matter(of):
    term, s, t = ready(Attention(of=of), mask=[True, False, True, True])
    laws.masked_rows_do_not_matter(term, s, t)


def test_the_scores_are_those_that_a_real_model_computes():
    """Centred logarithms of BERT's attention are its centred ``q k / sqrt(d)``."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, num_labels=2
    )
    models = [BertForSequenceClassification(config).eval() for _ in range(2)]
    ids = torch.randint(1, 20, (3, 5))
    tokens = attention()[2]
    batch = {"input_ids": ids, "attention_mask": tokens.long()}
    scores, probabilities = [], []
    for model in models:
        for weight in model.parameters():
            nn.init.normal_(weight, std=0.5)
        said = read(model, text(batch), ["attention.0", "embedding"])[1]
        layer = model.bert.encoder.layer[0].attention.self
        q, k = (part(said["embedding"]).view(3, 5, 2, 4).transpose(1, 2) for part in (layer.query, layer.key))
        scores.append(q @ k.transpose(-1, -2) / 2)
        probabilities.append(said["attention.0"])
    value = attention_difference(*probabilities, tokens, "scores")
    torch.testing.assert_close(value, written_out(*scores, tokens, "scores"), rtol=1e-3, atol=1e-5)


def test_scores_and_probabilities_differ_and_nothing_is_learned():
    seen = []
    for of in OF:
        term, s, t = ready(Attention(of=of))
        value = term(s, t, 0.0)
        seen.append((value.item(), laws.gradients(value, s)["attention.0"].norm().item()))
        assert not list(term.parameters())
    assert seen[0][0] != seen[1][0] and seen[0][1] != seen[1][1]


def test_what_cannot_be_compared_is_told():
    with pytest.raises(UserError, match="scores, probabilities"):
        Attention(of="values")
    term, s, t = ready(Attention())
    t.taps["attention.3"] = t.taps["attention.3"][..., :-1]
    with pytest.raises(UserError, match="all but the heads"):
        term(s, t, 0.0)
