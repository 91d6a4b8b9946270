"""Laws of explanations: complete, exact for linear models, and independent of the batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.metric.attribute import METHODS, faithfulness, integrated_gradients, largest, rank_correlation
from kdlab.metric.attribution import Attribution
from kdlab.metric.entry import GRID, Entry
from kdlab.task.causal_lm import CausalLM
from kdlab.task.sequence_classification import SequenceClassification

TASK = SequenceClassification()
TASK.prepare(["no", "maybe", "yes"], [1, 1, 1])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


def batch_of(lengths, width=None) -> Batch:
    real = torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.randint(1, 40, real.shape, generator=torch.Generator().manual_seed(1)).where(real, 0)
    return Batch(torch.arange(len(lengths)), {"input_ids": ids, "attention_mask": real.long()}, {}, tokens=real)


class Linear(nn.Module):
    """Logits that are a sum over words, or over pixels."""

    def __init__(self, images: bool = False) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(40, 5), nn.Linear(16 * 20 if images else 5, 3)
        if images:
            self.forward = lambda pixel_values: self.head(pixel_values.flatten(1))

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids, attention_mask):
        return self.head((self.table(input_ids) * attention_mask[..., None]).sum(1))


def test_a_row_alone_is_explained_as_in_a_batch(model):
    batch = batch_of([9, 4, 6])
    whole = Entry(TASK, model, batch)
    label = torch.tensor([0, 1, 2])
    for name, method in METHODS.items():
        found = method(whole, label, 16)
        assert (found[~batch.tokens] == 0).all()
        for row, length in enumerate([9, 4, 6]):
            alone = batch.rows(slice(row, row + 1))
            alone = Batch(alone.row, {key: one[:, :length] for key, one in alone.inputs.items()}, {},
                          tokens=alone.tokens[:, :length])  # fmt: skip
            entry = Entry(TASK, model, alone)
            one = method(entry, label[row : row + 1], 16)
            torch.testing.assert_close(found[row : row + 1, :length], one, atol=2e-5, rtol=1e-3, msg=name)
            torch.testing.assert_close(
                torch.stack(faithfulness(entry, one, label[row : row + 1], 0.3))[:, 0],
                torch.stack(faithfulness(whole, found, label, 0.3))[:, row], atol=2e-5, rtol=1e-3,
            )  # fmt: skip


def test_integrated_gradients_are_complete(model):
    entry, label = Entry(TASK, model, batch_of([9, 4, 6])), torch.tensor([0, 1, 2])
    with torch.no_grad():
        change = entry.logits(entry.values) - entry.logits(torch.zeros_like(entry.values))
    found = integrated_gradients(entry, label, 64).sum(1)
    torch.testing.assert_close(found, change.gather(1, label[:, None])[:, 0], atol=1e-3, rtol=0)
    assert change.abs().max() > 0.1


@pytest.mark.parametrize("images", [False, True])
def test_all_methods_agree_on_a_linear_model_with_what_its_weights_are(images):
    torch.manual_seed(0)
    model = Linear(images).eval()
    pixels = torch.randn(2, 1, 16, 20)
    batch = Batch(torch.arange(2), {"pixel_values": pixels}) if images else batch_of([5, 3])
    entry, label = Entry(TASK, model, batch), torch.tensor([1, 2])
    weight = model.head.weight[label].detach()
    if images:
        parts = (pixels * weight.view(2, 1, 16, 20)).view(2, GRID, 2, 20).sum(2)
        columns = torch.arange(20) * GRID // 20
        expected = torch.zeros(2, GRID, GRID).index_add_(2, columns, parts).flatten(1)
    else:
        expected = (entry.values @ weight[:, :, None])[..., 0].where(batch.tokens, 0)
    for name, method in METHODS.items():
        torch.testing.assert_close(method(entry, label, 4), expected, atol=1e-4, rtol=1e-4, msg=name)


def test_faithful_explanations_beat_their_opposite_and_all_units_are_enough():
    torch.manual_seed(0)
    entry, label = Entry(TASK, Linear().eval(), batch_of([9, 7, 8])), torch.tensor([0, 1, 2])
    found = integrated_gradients(entry, label, 4)
    full, enough = faithfulness(entry, found, label, 0.3)
    other_full, other_enough = faithfulness(entry, -found, label, 0.3)
    assert (full > other_full).all() and (enough < other_enough).all()
    torch.testing.assert_close(faithfulness(entry, found, label, 1.0)[1], torch.zeros(3))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=9))
def test_rank_correlation_is_that_of_scipy(pairs):
    one, other = torch.tensor(pairs).float().T
    more = [torch.cat([some, torch.tensor([9.0, -9.0])])[None] for some in (one, other)]
    real = torch.tensor([[True] * len(pairs) + [False, False]])
    found = float(rank_correlation(*more, real))
    if len(set(one.tolist())) < 2 or len(set(other.tolist())) < 2:
        assert found != found
    else:
        assert found == pytest.approx(spearmanr(one, other).statistic, abs=1e-5)


@given(st.integers(1, 9), st.floats(0.05, 1))
def test_the_largest_are_at_least_one_and_the_share_of_the_real_ones(length, share):
    real = (torch.arange(9) < length)[None]
    chosen = largest(torch.randn(1, 9), real, share)
    assert int(chosen.sum()) == max(1, round(length * share)) and not (chosen & ~real).any()


def test_wrong_use_is_one_sentence():
    with pytest.raises(UserError, match="metric=attribution explains one decision for each row"):
        Attribution().accept(CausalLM())
    with pytest.raises(UserError, match=r"methods has 'magic': choose among gradient_x_input"):
        Attribution(methods=["magic"])
    with pytest.raises(UserError, match="methods is empty"):
        Attribution(methods=[])
