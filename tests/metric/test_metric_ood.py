"""Laws of the scores that tell rows apart from those of the training, and scikit-learn and scipy as references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from kdlab.error import UserError
from kdlab.metric.ood import OutOfDistribution
from kdlab.metric.outlier import auroc, false_positive_rate, mahalanobis, nearest
from kdlab.task.causal_lm import CausalLM
from kdlab.task.sequence_classification import SequenceClassification

scores = st.lists(st.integers(-3, 3), min_size=1, max_size=30).map(lambda some: torch.tensor(some).double())
seeds = st.integers(0, 1000)


@given(scores, scores)
def test_auroc_is_the_statistic_of_mann_and_whitney_and_turns_with_the_sides(inside, outside):
    expected = mannwhitneyu(inside, outside).statistic / (len(inside) * len(outside))
    assert auroc(inside, outside) == pytest.approx(expected)
    assert auroc(outside, inside) == pytest.approx(1 - auroc(inside, outside))
    assert auroc(torch.zeros_like(inside), torch.zeros_like(outside)) == 0.5


@given(seeds)
@settings(max_examples=15)
def test_both_figures_are_those_of_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    inside, outside = random.normal(1, 1, 60), random.normal(0, 1, 50)
    truth, score = np.repeat([1, 0], [60, 50]), np.concatenate([inside, outside])
    one, two = torch.from_numpy(inside), torch.from_numpy(outside)
    assert auroc(one, two) == pytest.approx(metrics.roc_auc_score(truth, score))
    falsely, rightly, _ = metrics.roc_curve(truth, score, drop_intermediate=False)
    assert false_positive_rate(one, two) == pytest.approx(falsely[np.argmax(rightly >= 0.95)])


@given(seeds)
def test_distances_are_those_of_scipy_and_do_not_depend_on_the_order(seed):
    random = np.random.default_rng(seed)
    known, new, label = random.normal(size=(40, 3)), random.normal(size=(9, 3)), np.arange(40) % 3
    means = np.stack([known[label == one].mean(0) for one in range(3)])
    centred = known - means[label]
    precision = np.linalg.inv(centred.T @ centred / 40)
    expected = -(cdist(new, means, "mahalanobis", VI=precision) ** 2).min(1)
    given_ = torch.from_numpy(new), torch.from_numpy(known), torch.from_numpy(label)
    np.testing.assert_allclose(mahalanobis(*given_), expected, rtol=1e-4)
    order = torch.from_numpy(random.permutation(40))
    torch.testing.assert_close(mahalanobis(given_[0], given_[1][order], given_[2][order]), mahalanobis(*given_))
    unit = [some / np.linalg.norm(some, axis=1, keepdims=True) for some in (new, known)]
    np.testing.assert_allclose(nearest(*given_[:2], 4), -np.sort(cdist(*unit), axis=1)[:, 3], atol=1e-7)
    assert float(nearest(given_[1][:1], given_[1], 1)) == pytest.approx(0, abs=1e-6)


def test_features_that_never_vary_give_finite_distances():
    known = torch.ones(5, 3)
    assert mahalanobis(torch.zeros(2, 3), known, torch.zeros(5).long()).isfinite().all()


def test_wrong_use_is_one_sentence():
    for task in (CausalLM(), SequenceClassification(multi_label=True)):
        with pytest.raises(UserError, match="metric=ood asks how sure one class for each row is"):
            OutOfDistribution().accept(task)
    with pytest.raises(UserError, match=r"name it with metric\.ood\.path=FILE"):
        OutOfDistribution().setup(SequenceClassification(), None)
