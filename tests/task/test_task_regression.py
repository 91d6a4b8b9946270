"""The task of numbers: its loss, its unit, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import huber_loss, mse_loss

from kdlab.datamodule.target import Numbers
from kdlab.error import UserError
from kdlab.output import Output
from kdlab.task.regression import Regression
from tests.batches import labels

NAN = float("nan")


def prepared(**settings):
    task = Regression(**settings)
    task.prepare(["number"], [1])
    return task


def logits(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 1, dtype=torch.float64, generator=generator).requires_grad_()


def output(values, count=None):
    return Output(values, torch.ones(len(values), dtype=torch.bool), count=count)


@pytest.mark.parametrize(
    ("settings", "reference"),
    [({}, mse_loss), ({"loss": "huber", "delta": 0.3}, lambda a, b: huber_loss(a, b, delta=0.3))],
    ids=["mse", "huber"],
)
def test_supervised_is_that_of_torch_over_labelled_rows_in_units_of_scale(settings, reference):
    label, values = torch.tensor([2.0, NAN, -1.0, 0.5]), logits(4)
    known = [0, 2, 3]
    value = prepared(center=1.0, scale=2.0, **settings).supervised(output(values), labels(label))
    expected = reference(values[known, 0], ((label[known] - 1) / 2).double())
    torch.testing.assert_close(value, expected)
    value.backward()
    assert values.grad[1] == 0 and (values.grad[known] != 0).all()


def test_a_batch_without_numbers_is_an_exact_0_with_a_graph():
    values = logits(2)
    value = prepared().supervised(output(values), labels(torch.tensor([NAN, NAN]), labelled=0.0))
    value.backward()
    assert value == 0 and (values.grad == 0).all()


@given(st.lists(st.lists(st.sampled_from([NAN, -2.0, 0.5, 3.0]), min_size=1, max_size=4), min_size=1, max_size=4))
def test_micro_batches_add_up(parts):
    task, whole = prepared(), torch.tensor([y for part in parts for y in part])
    values, known = logits(len(whole)), int(whole.isfinite().sum())
    pieces = values.split([len(part) for part in parts])
    size = {"labelled": known / len(parts)}
    values_of = [
        task.supervised(output(piece), labels(torch.tensor(part), **size))
        for piece, part in zip(pieces, parts, strict=True)
    ]
    expected = task.supervised(output(values), labels(whole, labelled=float(known)))
    torch.testing.assert_close(sum(values_of) / len(parts), expected)


def test_predictions_are_in_the_unit_of_the_numbers_and_losses_are_not():
    task, batch = prepared(center=170.0, scale=10.0), labels(torch.tensor([180.0, NAN]))
    found = task.frame(torch.tensor([[0.5], [0.0]]), batch)
    assert found.label[0] == 1.0 and found.label[1].isnan() and found.labelled.tolist() == [True, False]
    predicted, target = task.scored(found, batch)
    assert predicted.tolist() == [175.0, 170.0] and target[0] == 180.0 and target[1].isnan()


def data(values, **more):
    target = Numbers.of(np.array(values, np.float32))
    splits = {"train": np.arange(len(values))}
    return SimpleNamespace(target=target, splits=splits, source="mine", packs=False, whole=False, **more)


@pytest.mark.parametrize("values", [[1e3, 1.001e3], [-40.0, 40.0], [1e-4, -1e-4]], ids=["far", "wide", "narrow"])
def test_numbers_far_from_center_and_scale_are_one_sentence_with_the_values_to_set(values):
    with pytest.raises(UserError, match=r"set task.center=\S+ task.scale=\S+$") as problem:
        prepared().check_data(data(values))
    words = dict(word.removeprefix("task.").split("=") for word in str(problem.value).split()[-2:])
    prepared(**{name: float(value) for name, value in words.items()}).check_data(data(values))


def test_usual_numbers_and_data_without_any_are_taken():
    for values in ([1.0, 2.0, 5.0], [0.0, 1.0], [3.0, 3.0], [NAN, NAN]):
        prepared().check_data(data(values))


BAD = [({"loss": "mae"}, "must be mse or huber"), ({"scale": 0.0}, "scale is 0.0"), ({"delta": -1.0}, "delta is -1.0")]


@pytest.mark.parametrize(("settings", "error"), BAD)
def test_bad_settings_are_refused(settings, error):
    with pytest.raises(UserError, match=error):
        Regression(**settings)
