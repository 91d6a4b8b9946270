import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from kdlab.error import UserError
from kdlab.output import Output
from kdlab.task.head import mlp_head
from kdlab.task.sequence_classification import SequenceClassification
from tests.batches import labels, text

CONF = Path(__file__).parents[2] / "conf"
LABELS = ["bad", "fair", "good"]
COUNTS = [10, 30, 60]


class Tiny(nn.Module):
    """The smallest model: a mean of embeddings and a linear layer."""

    def __init__(self, labels=3):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.body = nn.ModuleDict({"classifier": nn.Linear(4, labels)})
        self.config = SimpleNamespace(num_labels=labels)

    def forward(self, input_ids, attention_mask, **_):
        real = attention_mask[..., None]
        pooled = (self.embedding(input_ids) * real).sum(1) / real.sum(1)
        return SimpleNamespace(logits=self.body["classifier"](pooled))


@pytest.fixture
def tap(monkeypatch):
    """Stands in for reading models, which has its own tests."""
    stub = ModuleType("kdlab.model.tap")
    stub.asked = []

    def read(model, batch, taps):
        stub.asked.append(set(taps))
        logits = model(**batch.inputs).logits
        return logits, {name: torch.zeros(len(logits), 4) for name in taps}

    stub.read = read
    monkeypatch.setitem(sys.modules, "kdlab.model.tap", stub)
    return stub


def batch(rows=4, **more):
    mask = torch.ones(rows, 5, dtype=torch.long)
    mask[0, 3:] = 0
    return text({"input_ids": torch.arange(rows * 5).view(rows, 5) % 11, "attention_mask": mask}, **more)


def prepared(counts=COUNTS, **settings):
    task = SequenceClassification(**settings)
    task.prepare(LABELS, counts)
    return task


def output(label, seed=0, dtype=torch.float64, count=None):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(label), 3, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
    return Output(logits, torch.ones(len(label), dtype=torch.bool), count=count)


def test_read_gives_every_row_the_tokens_and_only_the_taps_asked_for(tap):
    out = prepared().read(Tiny(), batch(rows=4), {"pooled"})
    assert tap.asked == [{"pooled"}] and set(out.taps) == {"pooled"}
    assert out.logits.shape == (4, 3) and out.mask.tolist() == [True] * 4 and out.count is None
    assert out.tokens.dtype == torch.bool and out.tokens.sum() == 18
    assert prepared().read(Tiny(), text(batch(rows=4).inputs, rows=8.0)).count == 8.0


def test_a_model_for_other_labels_is_told(tap):
    with pytest.raises(UserError, match=r"2 logits.*3 labels"):
        prepared().read(Tiny(labels=2), batch())


def test_supervised_is_cross_entropy_over_labelled_rows():
    label = torch.tensor([2, -1, 0, 1, -1])
    out = output(label)
    expected = cross_entropy(out.logits, label, ignore_index=-1)
    torch.testing.assert_close(prepared().supervised(out, labels(label)), expected)
    smooth = cross_entropy(out.logits, label, ignore_index=-1, label_smoothing=0.2)
    torch.testing.assert_close(prepared(label_smoothing=0.2).supervised(out, labels(label)), smooth)


def test_unlabelled_rows_get_no_gradient():
    label = torch.tensor([2, -1, 0])
    out = output(label)
    prepared(class_weights="balanced").supervised(out, labels(label)).backward()
    assert (out.logits.grad[1] == 0).all() and (out.logits.grad[[0, 2]] != 0).all()


@pytest.mark.parametrize("more", [{}, {"labelled": 0.0}, {"labelled": 2.5}])
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_batch_without_labels_is_an_exact_0_with_a_graph(more, multi_label):
    label = -torch.ones(3, 3) if multi_label else torch.tensor([-1, -1, -1])
    out = output(label)
    value = prepared(multi_label=multi_label).supervised(out, labels(label, **more))
    value.backward()
    assert value == 0 and (out.logits.grad == 0).all()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(-1, 2), min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from([None, "balanced", [1.0, 2.0, 5.0]]),
)
def test_micro_batches_add_up(parts, weights):
    task = prepared(class_weights=weights)
    label = torch.tensor([y for part in parts for y in part])
    labelled = int((label >= 0).sum())
    whole = output(label)
    pieces = whole.logits.split([len(part) for part in parts])
    values = [
        task.supervised(
            Output(piece, torch.ones(len(part), dtype=torch.bool), count=99.0),
            labels(torch.tensor(part), labelled=labelled / len(parts)),
        )
        for piece, part in zip(pieces, parts, strict=True)
    ]
    torch.testing.assert_close(torch.stack(values).mean(), task.supervised(whole, labels(label)))


@given(st.lists(st.integers(1, 100), min_size=3, max_size=3), st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_class_weights_average_1_over_the_training_rows(counts, weights):
    total = torch.tensor(counts, dtype=torch.float64)
    for choice in ("balanced", weights):
        weight = prepared(counts, class_weights=choice).weight
        assert float((weight * total).sum() / total.sum()) == pytest.approx(1)
    balanced = prepared(counts, class_weights="balanced").weight * total
    torch.testing.assert_close(balanced, balanced[:1].expand(3))
    ratio = prepared(counts, class_weights=weights).weight / torch.tensor(weights, dtype=torch.float64)
    torch.testing.assert_close(ratio, ratio[:1].expand(3))


def test_class_weights_weigh_rows():
    task = prepared(class_weights=[1.0, 2.0, 4.0])
    label = torch.tensor([0, 1, 2, 2])
    out = output(label)
    rows = cross_entropy(out.logits, label, reduction="none") * task.weight[label]
    torch.testing.assert_close(task.supervised(out, labels(label)), rows.mean())


def test_an_empty_class_gets_the_largest_weight_of_the_others():
    weight = prepared([0, 10, 40], class_weights="balanced").weight
    assert weight[0] == weight[1] > weight[2]
    assert prepared([0, 0, 0], class_weights="balanced").weight.tolist() == [1, 1, 1]


def test_multi_label_is_binary_cross_entropy():
    label = torch.tensor([[1.0, 0.0, 1.0], [-1.0, -1.0, -1.0], [0.0, 0.0, 0.0]])
    out = output(label)
    known = out.logits[[0, 2]], label[[0, 2]].double()
    value = prepared(multi_label=True).supervised(out, labels(label))
    torch.testing.assert_close(value, binary_cross_entropy_with_logits(*known))
    smooth = prepared(multi_label=True, label_smoothing=0.2).supervised(out, labels(label))
    torch.testing.assert_close(smooth, binary_cross_entropy_with_logits(known[0], 0.8 * known[1] + 0.1))


def test_half_precision_is_computed_wide():
    label = torch.tensor([0, 1])
    out = output(label, dtype=torch.bfloat16)
    assert prepared(class_weights="balanced").supervised(out, labels(label)).dtype == torch.float32
    torch.testing.assert_close(prepared().outcome.probabilities(out.logits).sum(-1), torch.ones(2))


def test_probabilities():
    logits = torch.tensor([[0.0, 100.0, -100.0]])
    torch.testing.assert_close(prepared().outcome.probabilities(logits), torch.tensor([[0.0, 1.0, 0.0]]))
    torch.testing.assert_close(
        prepared(multi_label=True).outcome.probabilities(logits), torch.tensor([[0.5, 1.0, 0.0]])
    )


def test_attach_names_the_labels_and_puts_the_head_in(tap):
    model = prepared().attach(Tiny())
    assert model.config.id2label == {0: "bad", 1: "fair", 2: "good"} and model.config.label2id["good"] == 2
    assert isinstance(model.body["classifier"], nn.Linear)
    model = prepared(head=partial(mlp_head, width=7, dropout=0.0)).attach(Tiny())
    shapes = [tuple(m.weight.shape) for m in model.body["classifier"].modules() if isinstance(m, nn.Linear)]
    assert shapes == [(7, 4), (3, 7)]
    assert prepared().read(model, batch()).logits.shape == (4, 3)


def test_attach_works_with_a_real_tap_and_a_real_model():
    pytest.importorskip("kdlab.model.tap")
    from transformers import BertConfig, BertForSequenceClassification

    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=11, num_labels=3, **size))
    task = prepared(head=partial(mlp_head, width=5, dropout=0.0))
    out = task.read(task.attach(model), batch(), {"hidden.-1"})
    assert out.logits.shape == (4, 3) and out.taps["hidden.-1"].shape == (4, 5, 8)
    assert model.config.label2id == {"bad": 0, "fair": 1, "good": 2}


@pytest.mark.parametrize(
    ("match", "arguments"),
    [
        ("2 weights.*3 labels", {"class_weights": [1.0, 2.0]}),
        ("null, balanced, or a list", {"class_weights": "balance"}),
        ("above 0", {"class_weights": [1.0, 2.0, 0.0]}),
        ("above 0", {"class_weights": [1.0, 2.0, float("nan")]}),
        ("multi-label", {"class_weights": "balanced", "multi_label": True}),
        ("label_smoothing", {"label_smoothing": 1.0}),
        ("label_smoothing", {"label_smoothing": -0.1}),
    ],
)
def test_what_cannot_work_is_told(match, arguments):
    with pytest.raises(UserError, match=match):
        prepared(**arguments)


def test_labels_of_the_other_kind_are_told():
    for multi_label, label in ((False, torch.zeros(2, 3)), (True, torch.zeros(2, dtype=torch.long))):
        with pytest.raises(UserError, match=f"task.multi_label={not multi_label}"):
            prepared(multi_label=multi_label).supervised(output(label), labels(label))


@pytest.fixture
def root(tmp_path):
    text = f"defaults: [task: sequence_classification, _self_]\nhydra: {{searchpath: ['file://{CONF}']}}\n"
    (tmp_path / "root.yaml").write_text(text, encoding="utf-8")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        yield


def test_the_config_chooses_head_and_weights(root):
    task = instantiate(compose("root", ["task/head=mlp", "task.head.width=5", "task.class_weights=[1,2,3]"]).task)
    assert task.head(4, 3)[1].out_features == 5
    task.prepare(LABELS, COUNTS)
    assert len(task.weight) == 3
    assert instantiate(compose("root", []).task).head is None
