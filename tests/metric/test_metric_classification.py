import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multilabel_confusion_matrix,
    multilabel_f1_score,
)

from kdlab.metric.classification import classification
from kdlab.metric.report import report

LABELS = ["a", "b", "c"]


def made(seed, rows=30, multi_label=False):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, 3, generator=generator)
    if multi_label:
        return logits.sigmoid(), torch.randint(0, 2, (rows, 3), generator=generator).float()
    return logits.softmax(-1), torch.randint(0, 3, (rows,), generator=generator)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_report_and_metric_agree_and_batches_do_not_matter(seed, multi_label):
    probabilities, target = made(seed, multi_label=multi_label)
    metric = classification(LABELS, multi_label)
    for part in (slice(0, 7), slice(7, 30)):
        metric.update(probabilities[part], target[part])
    values = {name: float(value) for name, value in metric.compute().items()}
    details = report(probabilities, target, LABELS)
    expected = {"accuracy": details["accuracy"], "f1_macro": details["macro"]["f1"], "ece": details["ece"]}
    assert values == pytest.approx(expected, abs=1e-6)


def test_report_agrees_with_torchmetrics():
    probabilities, target = made(1)
    details = report(probabilities, target, LABELS)
    assert details["confusion"] == multiclass_confusion_matrix(probabilities, target, 3).tolist()
    f1 = multiclass_f1_score(probabilities, target, 3, average="none")
    assert [details["class"][label]["f1"] for label in LABELS] == pytest.approx(f1.tolist())
    assert sum(details["class"][label]["support"] for label in LABELS) == details["rows"] == 30
    assert details["ece"] == pytest.approx(float(multiclass_calibration_error(probabilities, target, 3, n_bins=15)))
    json.dumps(details, allow_nan=False)


def test_multi_label_report_agrees_with_torchmetrics():
    probabilities, target = made(2, multi_label=True)
    details = report(probabilities, target, LABELS)
    assert details["confusion"] == multilabel_confusion_matrix(probabilities, target.long(), 3).tolist()
    f1 = multilabel_f1_score(probabilities, target.long(), 3, average="none")
    assert [details["class"][label]["f1"] for label in LABELS] == pytest.approx(f1.tolist())


def test_by_hand():
    probabilities = torch.tensor([[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.3, 0.7, 0.0], [0.9, 0.1, 0.0]])
    target = torch.tensor([0, 1, 1, 0])
    details = report(probabilities, target, LABELS)
    assert details["confusion"] == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert details["class"]["a"] == pytest.approx({"precision": 2 / 3, "recall": 1, "f1": 0.8, "support": 2})
    assert details["class"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert details["macro"]["recall"] == pytest.approx(0.75), "a class that never occurs does not count"
    assert details["ece"] == pytest.approx((0.2 + 0.6 + 0.3 + 0.1) / 4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_unlabelled_rows_are_left_out(multi_label):
    probabilities, target = made(3, multi_label=multi_label)
    hidden = target.clone()
    hidden[::3] = -1
    seen = torch.arange(30) % 3 > 0
    metric, fewer = classification(LABELS, multi_label), classification(LABELS, multi_label)
    metric.update(probabilities, hidden)
    metric.update(probabilities[::3], hidden[::3])
    fewer.update(probabilities[seen], target[seen])
    assert metric.compute() == fewer.compute()
    assert metric(probabilities[::3], hidden[::3]) == {}
    assert report(probabilities, hidden, LABELS) == report(probabilities[seen], target[seen], LABELS)
    with pytest.raises(ValueError, match="labelled row"):
        report(probabilities[::3], hidden[::3], LABELS)


def test_a_prefix_names_the_split():
    assert set(classification(LABELS).clone(prefix="val/")) == {"val/accuracy", "val/f1_macro", "val/ece"}
