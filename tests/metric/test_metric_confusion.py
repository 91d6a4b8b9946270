"""Counts by class agree with a loop over the rows."""

from __future__ import annotations

import torch

from kdlab.metric.confusion import confusion, row_count
from kdlab.outcome import Bernoulli, Categorical


def test_predictions_are_counted_by_class():
    counted = confusion(Categorical(["a", "b", "c"]))
    probabilities = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [1.0, 0.0, 0.0]])
    counted.update(probabilities, torch.tensor([0, 0, 1, 2, -1]))  # the last row has no label
    counts = counted.compute()["confusion"]
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert row_count(counts) == 4


def test_several_labels_are_counted_one_by_one():
    counted = confusion(Bernoulli(["a", "b"]))
    target = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 0]])
    counted.update(torch.full((4, 2), 0.9), target)
    counts = counted.compute()["confusion"]
    assert row_count(counts) == 4
    assert counts.tolist() == [[[0, 1], [0, 3]], [[0, 3], [0, 1]]]


def test_many_classes_are_counted_without_their_square():
    counted = confusion(Categorical([str(number) for number in range(5000)]))
    counted.update(torch.rand(4, 5000), torch.tensor([4999, 0, 0, -1]))
    counts = counted.compute()["confusion"]
    assert counts.shape == (5000,)
    assert (int(counts[0]), row_count(counts)) == (2, 3)
