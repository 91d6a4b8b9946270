import json
import resource
from pathlib import Path

import numpy as np
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

from kdlab.metric.classification import BINS, calibration, calibration_error, classification
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
    metric = classification(LABELS)
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
    assert details["mistakes"] == [["b", "a", 1]]


@pytest.mark.parametrize("multi_label", [False, True])
def test_unlabelled_rows_are_left_out(multi_label):
    probabilities, target = made(3, multi_label=multi_label)
    hidden = target.clone()
    hidden[::3] = -1
    seen = torch.arange(30) % 3 > 0
    metric, fewer = classification(LABELS), classification(LABELS)
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


def reference(probabilities, target):
    """Accuracy, F1 and calibration error as the papers and scikit-learn's ``f1_score`` define them, in numpy."""
    p, y = probabilities.double().numpy(), target.numpy()
    if y.ndim == 1:
        predicted, sure = p.argmax(1), p.max(1)
        f1 = [2 * ((y == c) & (predicted == c)).sum() / ((y == c).sum() + (predicted == c).sum())
              for c in set(y) | set(predicted)]  # fmt: skip
        right = predicted == y
    else:
        predicted = p > 0.5
        sure, right = np.where(predicted, p, 1 - p).ravel(), (predicted == (y == 1)).ravel()
        f1 = [2 * (predicted[:, c] & (y[:, c] == 1)).sum() / (predicted[:, c].sum() + y[:, c].sum())
              for c in range(y.shape[1]) if predicted[:, c].any() or y[:, c].any()]  # fmt: skip
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    ece = sum(
        (place == b).mean() * abs(right[place == b].mean() - sure[place == b].mean())
        for b in range(BINS)
        if (place == b).any()
    )
    return {"accuracy": right.mean(), "f1_macro": np.mean(f1) if f1 else np.nan, "ece": ece}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.integers(2, 6), st.sampled_from([0.3, 3.0, 30.0, 300.0]))
def test_training_and_evaluate_are_the_reference_for_sure_and_rare_classes(seed, multi_label, classes, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(12, classes, generator=generator)
    logits[:, -1] -= scale  # seldom predicted
    probabilities = logits.sigmoid() if multi_label else logits.softmax(-1)
    shape = (12, classes) if multi_label else (12,)
    target = torch.randint(0, 2 if multi_label else classes - 1, shape, generator=generator)
    labels = [f"class {number}" for number in range(classes)]
    metric = classification(labels)
    metric.update(probabilities[:5], target[:5])
    metric.update(probabilities[5:], target[5:])
    expected = reference(probabilities, target)
    assert {name: float(value) for name, value in metric.compute().items()} == pytest.approx(expected, abs=1e-6)
    details = report(probabilities, target, labels)
    assert {name: details[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert details["macro"]["f1"] == details["f1_macro"]


def test_confidence_of_exactly_one_is_in_the_last_bin():
    probabilities, target = torch.tensor([[0.95, 0.05], [1.0, 0.0]]), torch.tensor([0, 1])
    metric = classification(["a", "b"])
    metric.update(probabilities, target)
    assert float(metric.compute()["ece"]) == pytest.approx(0.475)
    assert report(probabilities, target, ["a", "b"])["ece"] == pytest.approx(0.475)
    for bins in (1, 2, 10, 15):
        binned = calibration(torch.tensor([0.0, 1.0]), torch.tensor([True, True]), bins)
        assert binned[0].sum() == 2
        assert calibration_error(binned) == pytest.approx(0.5)


def test_every_decision_of_several_labels_is_an_answer():
    """0.1 for a label that is there is 0.9 sure, and wrong."""
    probabilities, target = torch.tensor([[0.1, 0.9]]), torch.tensor([[1, 1]])
    metric = classification(["a", "b"])
    metric.update(probabilities, target)
    assert float(metric.compute()["ece"]) == pytest.approx(0.4)
    assert report(probabilities, target, ["a", "b"])["ece"] == pytest.approx(0.4)


def test_labels_that_neither_occur_nor_are_predicted_do_not_count():
    probabilities = torch.tensor([[0.9, 0.1, 0.1], [0.8, 0.2, 0.3]])
    target = torch.tensor([[1, 0, 0], [1, 0, 0]])
    metric = classification(LABELS)
    metric.update(probabilities, target)
    assert metric.compute()["f1_macro"] == report(probabilities, target, LABELS)["f1_macro"] == 1.0


def test_thousands_of_classes_need_no_square():
    """With torchmetrics' counting a batch of 128 rows would ask for 25 GB."""
    labels = [str(number) for number in range(5000)]
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(128, 5000, generator=generator)
    target = torch.randint(0, 5000, (128,), generator=generator)
    metric = classification(labels)
    was = torch.are_deterministic_algorithms_enabled()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    torch.use_deterministic_algorithms(True)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 150 * 2**20, hard))
    try:
        metric.update(probabilities, target)
        details = report(probabilities, target, labels)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        torch.use_deterministic_algorithms(was)
    assert float(metric.compute()["accuracy"]) == pytest.approx(details["accuracy"])
    assert "confusion" not in details
    assert len(details["mistakes"]) == 100
    assert sum(value.numel() for one in metric.values() for value in one.metric_state.values()) < 4 * 5000
