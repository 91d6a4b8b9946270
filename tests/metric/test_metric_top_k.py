import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_accuracy

from kdlab.error import UserError
from kdlab.metric.top_k import among, top_k


@given(st.integers(0, 1000), st.integers(1, 6))
def test_it_is_that_of_torchmetrics(seed, k):
    torch.manual_seed(seed)
    probabilities, target = torch.randn(20, 7).softmax(-1), torch.randint(7, (20,))
    expected = multiclass_accuracy(probabilities, target, 7, average="micro", top_k=k)
    torch.testing.assert_close(among(probabilities, target, k).float().mean(), expected)


def test_batches_add_up_and_rows_without_a_label_do_not_count():
    metric = top_k(2, list("abc"))
    metric.update(torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), torch.tensor([1, -1]))
    metric.update(torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([2]))
    assert {name: float(value) for name, value in metric.compute().items()} == {"top2_accuracy": 0.5}


def test_few_classes_have_none_and_several_labels_are_refused():
    assert top_k(5, list("abcde")).compute() == {}
    with pytest.raises(UserError, match="needs one label a row"):
        top_k(5, list("abcdefg"), multi_label=True)
