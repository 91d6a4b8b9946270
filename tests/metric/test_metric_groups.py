"""Laws of gaps between groups, and fairlearn as reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.metric.gap import gap, interval
from kdlab.metric.groups import Groups
from kdlab.task.causal_lm import CausalLM
from kdlab.task.sequence_classification import SequenceClassification

LABELS = ["no", "yes"]


class Rows:
    source = "a table"
    labels = LABELS

    def __init__(self, values):
        self.values = values

    def column(self, name):
        return self.values


def measured(group, chosen, label, parts=None, labels=LABELS, **settings):
    task, data = SequenceClassification(), Rows(list(group))
    data.labels = labels
    task.prepare(labels, [1] * len(labels))
    metric = Groups(column="group", **settings)
    metric.setup(task, data)
    logits = torch.nn.functional.one_hot(torch.as_tensor(chosen), len(labels)).float()
    for part in parts or [np.arange(len(label))]:
        batch = Batch(torch.as_tensor(part), {}, {"label": torch.as_tensor(label)[part]})
        metric.update(task.frame(logits[part], batch), batch)
    return metric.compute()


def drawn(seed, rows=300, groups=3):
    random = np.random.default_rng(seed)
    return random.choice(list("abcde"[:groups]), rows), random.integers(0, 2, rows), random.integers(0, 2, rows)


@given(st.integers(0, 1000))
@settings(max_examples=15)
def test_gaps_do_not_depend_on_batches_or_their_order(seed):
    group, chosen, label = drawn(seed)
    parts = np.array_split(np.random.default_rng(seed).permutation(300), 5)
    whole = measured(group, chosen, label)
    assert measured(group, chosen, label, parts) == whole
    assert set(whole) == set(Groups().higher_is_better)
    for name in ("accuracy", "positive_rate", "tpr", "fpr"):
        low, found, high = (whole[f"groups/{name}_gap{end}"] for end in ("_low", "", "_high"))
        assert 0 <= low <= found <= high <= 1


@pytest.mark.slow
def test_gaps_are_those_of_fairlearn():
    metrics = pytest.importorskip("fairlearn.metrics")
    for seed in range(5):
        group, chosen, label = drawn(seed)
        found = measured(group, chosen, label)
        given_ = {"y_true": label, "y_pred": chosen, "sensitive_features": group}
        assert found["groups/positive_rate_gap"] == pytest.approx(metrics.demographic_parity_difference(**given_))
        both = max(found["groups/tpr_gap"], found["groups/fpr_gap"])
        assert both == pytest.approx(metrics.equalized_odds_difference(**given_))
        right = metrics.MetricFrame(metrics=lambda y_true, y_pred: np.mean(y_true == y_pred), **given_)
        assert found["groups/accuracy_gap"] == pytest.approx(right.difference())
        assert found["groups/worst_accuracy"] == pytest.approx(right.group_min())


def test_identical_groups_have_no_gap_and_one_that_is_never_right_has_the_largest():
    group, chosen, label = np.repeat(list("ab"), 100), np.tile([0, 1], 100), np.tile([0, 1, 1, 1], 50)
    found = measured(group, chosen, label)
    assert all(value == 0 for name, value in found.items() if name.endswith(("gap", "low")))
    found = measured(group, np.where(group == "a", label, 1 - label), label)
    assert found["groups/accuracy_gap"] == 1 == found["groups/tpr_gap"] and found["groups/worst_accuracy"] == 0


@pytest.mark.parametrize("groups", [2, 5])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_of_equal_groups_covers_0_at_the_stated_rate(groups, level):
    random, rows = np.random.default_rng(0), np.array([150, 400, 90, 200, 300][:groups])
    covered = [interval(random.binomial(rows, 0.7), rows, level, 500, seed)[0] == 0 for seed in range(600)]
    assert np.mean(covered) == pytest.approx(level, abs=0.05)


def test_the_interval_covers_a_true_gap_and_narrows_with_more_rows():
    random, widths = np.random.default_rng(0), []
    for rows in (np.array([100, 100]), np.array([2000, 2000])):
        both = [interval(random.binomial(rows, [0.9, 0.7]), rows, 0.95, 500, seed) for seed in range(200)]
        assert np.mean([low <= 0.2 <= high for low, high in both]) > 0.9
        widths.append(np.mean([high - low for low, high in both]))
    assert widths[1] < widths[0] / 3
    assert np.isnan(gap(np.array([1]), np.array([2])))


def test_small_groups_rows_without_a_group_and_without_a_label_do_not_count():
    group, chosen, label = drawn(0)
    before = measured(group, chosen, label)
    more = [np.append(one, other) for one, other in ((group.astype(object), ["z", "", "a"]), (chosen, [0, 0, 0]))]
    assert measured(*more, np.append(label, [1, 1, -1])) == before


def test_more_labels_compare_accuracies_alone_or_one_label():
    group, chosen, label = drawn(0)
    found = measured(group, chosen, label, labels=["a", "b", "c"])
    assert {name.removeprefix("groups/") for name in found} == {
        "accuracy_gap", "accuracy_gap_low", "accuracy_gap_high", "worst_accuracy",
    }  # fmt: skip
    one = measured(group, chosen, label, labels=["a", "b", "c"], positive="b")
    assert one == measured(group, chosen, label)


def test_wrong_use_is_one_sentence():
    for task in (CausalLM(), SequenceClassification(multi_label=True)):
        with pytest.raises(UserError, match="metric=groups compares one label a row"):
            Groups().accept(task)
    with pytest.raises(UserError, match=r"metric\.groups\.column=NAME"):
        Groups().setup(SequenceClassification(), Rows([]))
    with pytest.raises(UserError, match="has 1 groups"):
        measured(["a"] * 60, [0] * 60, [0] * 60)
    with pytest.raises(UserError, match="has 60 groups in 60 rows"):
        measured(range(60), [0] * 60, [0] * 60)
    with pytest.raises(UserError, match=r"metric\.groups\.positive=maybe is no label: choose among no, yes"):
        measured(*drawn(0), positive="maybe")
