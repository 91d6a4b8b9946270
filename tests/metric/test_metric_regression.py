"""The metrics of numbers against references of their own."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from kdlab.metric.regression import regression


@given(st.integers(0, 10_000), st.sampled_from([0.0, 2000.0]))
def test_they_are_the_formulas_whatever_the_batches_and_only_labelled_rows_count(seed, offset):
    draw = np.random.default_rng(seed)
    target = offset + draw.normal(size=12).round(1)
    predicted = (target + draw.normal(size=12)).astype(np.float32).astype(float)
    metric = regression(["number"])
    for part in (slice(0, 5), slice(5, 12)):
        metric.update(torch.tensor(predicted[part]), torch.tensor(target[part]))
    metric.update(torch.tensor([7.0]), torch.tensor([math.nan]))
    error = predicted - target
    expected = {
        "mae": np.abs(error).mean(),
        "rmse": np.sqrt((error**2).mean()),
        "r2": 1 - (error**2).sum() / ((target - target.mean()) ** 2).sum(),
        "spearman": spearmanr(predicted, target).statistic,
    }
    assert {name: float(value) for name, value in metric.compute().items()} == pytest.approx(expected, rel=1e-5)


def test_fewer_than_two_rows_have_no_value_and_a_reset_forgets():
    metric = regression(["number"])
    metric.update(torch.tensor([1.0]), torch.tensor([1.0]))
    assert all(math.isnan(value) for value in metric.compute().values())
    metric.update(torch.tensor([1.0]), torch.tensor([3.0]))
    assert float(metric.compute()["mae"]) == 1.0
    metric.reset()
    assert all(math.isnan(value) for value in metric.compute().values())
