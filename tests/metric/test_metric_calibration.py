"""Laws of calibration, selective prediction and prediction sets, and numpy and crepes as their references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.metric.answers import Answers
from kdlab.metric.calibration import Calibration, errors
from kdlab.metric.classification import calibration, calibration_error
from kdlab.metric.conformal import SCORES, covered, threshold
from kdlab.metric.reliability import adaptive_error, brier, classwise_error, fit_temperature, nll, risk_at, risks
from kdlab.outcome import Bernoulli, Categorical
from kdlab.task.causal_lm import CausalLM
from kdlab.task.sequence_classification import SequenceClassification


def drawn(seed: int, rows: int = 40, classes: int = 4, temperature: float = 1.0):
    """Logits and labels that are drawn from their own probabilities at a temperature."""
    random = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, generator=random, dtype=torch.float64)
    label = torch.multinomial((logits / temperature).softmax(1), 1, generator=random)[:, 0]
    return logits, label


def histogram(sure: np.ndarray, right: np.ndarray, edges: np.ndarray) -> float:
    """The calibration error of bins with these inner edges."""
    place = np.digitize(sure, edges)
    return sum(abs((right - sure)[place == one].sum()) for one in np.unique(place)) / len(sure)


seeds = st.integers(0, 10_000)


@given(seeds, st.integers(1, 20))
def test_errors_are_those_of_histograms(seed, bins):
    logits, label = drawn(seed)
    probabilities = logits.softmax(1)
    sure, right = probabilities.max(1).values, probabilities.argmax(1) == label
    one, two = sure.numpy(), right.double().numpy()
    even = np.linspace(0, 1, bins + 1)[1:-1]
    assert float(calibration_error(calibration(sure, right, bins))) == pytest.approx(histogram(one, two, even))
    order = np.argsort(one)
    parts = [abs((two - one)[part].sum()) for part in np.array_split(order, min(bins, len(order)))]
    assert float(adaptive_error(sure, right, bins)) == pytest.approx(sum(parts) / len(one))
    by_class = [histogram(probabilities[:, c].numpy(), (label == c).double().numpy(), even) for c in range(4)]
    assert float(classwise_error(probabilities, label, bins)) == pytest.approx(np.mean(by_class))
    torchs = multiclass_calibration_error(probabilities, label, 4, n_bins=15)
    assert errors(probabilities.log(), label, 15)["ece"] == pytest.approx(float(torchs), abs=1e-6)


@given(seeds)
def test_proper_scores_are_the_plain_formulas(seed):
    logits, label = drawn(seed)
    probabilities = logits.softmax(1)
    answer = torch.nn.functional.one_hot(label, 4)
    torch.testing.assert_close(brier(probabilities.log(), label), (probabilities - answer).square().sum(1))
    torch.testing.assert_close(
        nll(probabilities.log(), label), torch.nn.functional.cross_entropy(logits, label, reduction="none")
    )


def test_errors_of_calibrated_data_go_to_zero_and_of_hot_data_do_not():
    sizes = [errors(*prepared(drawn(3, rows))) for rows in (300, 100_000)]
    for name in ("ece", "ece_adaptive", "ece_classwise"):
        assert sizes[1][name] < 0.01 < sizes[0][name]
        assert errors(*prepared(drawn(3, 20_000, temperature=3.0)))[name] > 0.05


def prepared(found):
    return found[0].log_softmax(1), found[1], 15


@given(seeds, st.permutations(range(40)))
def test_order_does_not_matter_not_even_among_equal_confidences(seed, order):
    logits, label = drawn(seed)
    sure = (logits.softmax(1).max(1).values * 5).round() / 5
    right = logits.argmax(1) == label
    for measure in (adaptive_error, risks):
        torch.testing.assert_close(measure(sure, right), measure(sure[list(order)], right[list(order)]))


@given(seeds)
def test_risk_is_sorted_by_hand_and_ends_with_the_error(seed):
    logits, label = drawn(seed)
    sure, wrong = logits.softmax(1).max(1).values, (logits.argmax(1) != label).numpy()
    order = np.argsort(-sure.numpy())
    expected = [wrong[order[:count]].mean() for count in range(1, 41)]
    found = risks(sure, torch.from_numpy(~wrong))
    np.testing.assert_allclose(found.numpy(), expected)
    assert float(risk_at(found, 1.0)) == pytest.approx(wrong.mean())
    assert float(risk_at(found, 0.5)) == pytest.approx(expected[19])
    torch.testing.assert_close(risks(torch.ones(40), torch.from_numpy(~wrong))[:1], found[-1:])  # equally sure of all


@given(seeds, st.floats(0.3, 5))
@settings(max_examples=25)
def test_the_temperature_scales_and_is_where_the_likelihood_is_highest(seed, factor):
    logits, label = drawn(seed, 200)
    best = fit_temperature(logits, label)
    loss = [nll((logits / (best * near)).log_softmax(1), label).mean() for near in (1.0, 0.97, 1.03)]
    assert loss[0] <= min(loss[1:]) + 1e-12
    if 0.1 < best < 4:
        assert fit_temperature(logits * factor, label) == pytest.approx(best * factor, rel=1e-6)


def test_the_temperature_of_drawn_labels_is_found_and_always_right_is_the_coldest():
    assert fit_temperature(*drawn(0, 50_000, temperature=2.5)) == pytest.approx(2.5, rel=0.03)
    logits, _ = drawn(0)
    assert fit_temperature(logits, logits.argmax(1)) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize(("alpha", "rows"), [(0.1, 49), (0.25, 30)])
def test_sets_cover_what_they_promise_and_hardly_more(kind, alpha, rows):
    hits, times, new = [], 600, 40
    for seed in range(times):
        logits, label = drawn(seed, rows + new, 5, temperature=3.0)  # a model that is far too sure
        draw = torch.rand(rows + new, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        score = SCORES[kind](logits.softmax(1), draw)
        limit = threshold(score[:rows].gather(1, label[:rows, None])[:, 0], alpha)
        hits.append(float(covered(score[rows:], label[rows:], limit)[0].double().mean()))
    error = 4 * np.std(hits) / times**0.5
    assert 1 - alpha - error <= np.mean(hits) <= 1 - alpha + 1 / (rows + 1) + error


@given(seeds, st.sampled_from([0.0, 0.05, 0.1, 0.5]))
@settings(max_examples=20)
def test_lac_is_that_of_crepes(seed, alpha):
    crepes = pytest.importorskip("crepes")
    logits, label = drawn(seed, 60)
    score = SCORES["lac"](logits.softmax(1), torch.zeros(60)).numpy()
    limit = threshold(torch.from_numpy(score[np.arange(30), label[:30]]), alpha)
    reference = crepes.ConformalClassifier().fit(score[np.arange(30), label[:30]])
    sets = reference.predict_set(score[30:], confidence=1 - alpha, smoothing=False)
    np.testing.assert_array_equal(sets.astype(bool), score[30:] <= limit)


def test_more_sure_means_smaller_sets_and_all_classes_without_rows_to_calibrate_on():
    logits, label = drawn(0, 500, 5)
    for kind, score in SCORES.items():
        found = score(logits.softmax(1), torch.full((500,), 0.5))
        known = found.gather(1, label[:, None])[:, 0]
        sizes = [float(covered(found, label, threshold(known, alpha))[1].double().mean()) for alpha in (0.01, 0.1, 0.5)]
        assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1], kind
        assert covered(found, label, threshold(known[:3], 0.1))[1].eq(5).all()


class Rows:
    """The little that the evaluator asks a data set."""

    def __init__(self, count: int, val: range) -> None:
        self.splits = {"val": np.array(val, np.int64)}
        self.processor = self
        self.rows = range(count)

    def encoded_rows(self):
        return self


def measured(metric, logits, label, held=None, parts=(slice(0, None),), task=None):
    task = task or SequenceClassification()
    task.prepare(list("abcd"), [1] * 4)
    metric.setup(task, Rows(len(label) + 100, range(len(label), len(label) + 100)))
    for part in parts:
        batch = Batch(torch.arange(len(label))[part], {}, {"label": label[part]})
        metric.update(task.frame(logits[part], batch), batch)
    metric.validation = held
    return metric.compute()


def test_batches_and_their_order_do_not_matter_and_unlabelled_rows_do_not_count():
    logits, label = drawn(1)
    held = Answers(torch.arange(40, 80), drawn(2)[0].float(), drawn(2)[1])
    whole = measured(Calibration(), logits, label, held)
    metric = Calibration()
    assert set(whole) == set(metric.higher_is_better)
    assert measured(metric, logits, label, held, [slice(30, 40), slice(7, 30), slice(0, 7)]) == whole
    more = torch.cat([logits, logits]), torch.cat([label, torch.full_like(label, -1)])
    found = measured(Calibration(), *more, held)
    assert found["calibration/nll"] == pytest.approx(whole["calibration/nll"])
    metric.reset()
    assert metric.compute() == {}
    assert not any("scaled" in name or "lac" in name for name in measured(Calibration(), logits, label))


def test_several_labels_a_row_are_answers_of_their_own():
    logits = drawn(1)[0]
    label = torch.randint(2, logits.shape, generator=torch.Generator().manual_seed(0)).float()
    found = measured(
        Calibration(), logits, label, Answers(torch.arange(40, 80), logits.float(), label.long()),
        task=SequenceClassification(multi_label=True),
    )  # fmt: skip
    flat = torch.stack([torch.zeros(160, dtype=torch.float64), logits.flatten()], 1)
    expected = torch.nn.functional.cross_entropy(flat.float(), label.flatten().long())
    assert found["calibration/nll"] == pytest.approx(float(expected), rel=1e-5)
    assert found["calibration/nll_scaled"] <= found["calibration/nll"]
    assert not any("lac" in name for name in found)
    answers = Answers(torch.arange(1), torch.zeros(1, 3), torch.ones(1, 3))
    assert answers.single(Bernoulli(list("abc")))[0].shape == (3, 2)
    assert Answers(torch.arange(1), torch.zeros(1, 3), torch.ones(1).long()).single(Categorical())[0].shape == (1, 3)


def test_a_task_without_labels_is_refused_before_data_are_read():
    with pytest.raises(UserError, match="metric=calibration compares probabilities with labels"):
        Calibration().accept(CausalLM())
