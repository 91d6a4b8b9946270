"""The baseline of always giving the commonest answer, against torchmetrics on such answers."""

from statistics import mode

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multilabel_accuracy

from kdlab.metric.majority import majority


@pytest.mark.parametrize("seed", range(5))
def test_is_the_accuracy_of_the_commonest_answer(seed):
    draw = np.random.default_rng(seed)
    train, rows = draw.choice(4, 60, p=[0.1, 0.2, 0.4, 0.3]), torch.from_numpy(draw.choice(4, 33))
    answers = torch.full_like(rows, mode(train.tolist()))
    assert majority(train, rows.numpy()) == pytest.approx(multiclass_accuracy(answers, rows, 4, "micro").item())


def test_rows_without_a_label_do_not_count():
    assert majority(np.array([-1, -1, -1, 2, 2, 0]), np.array([2, -1, 0, -1])) == 0.5
    assert majority(np.array([-1]), np.array([1])) is None
    assert majority(np.array([1]), np.array([-1, -1])) is None


def test_several_labels_are_decided_one_by_one():
    train = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 1], [-1, -1, -1], [1, 1, 1]], np.float32)
    rows = torch.tensor([[1, 0, 1], [0, 0, 0]])
    expected = multilabel_accuracy(torch.tensor([[1, 0, 1]]).expand(2, 3), rows, 3, average="micro").item()
    assert majority(train, rows.numpy()) == pytest.approx(expected)
