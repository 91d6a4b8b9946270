import pytest
import torch

from kdlab.loss.logit.kl import tempered_kl
from kdlab.metric.fidelity import fidelity
from kdlab.outcome import Bernoulli, Categorical


def logits(seed):
    return torch.randn(20, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("outcome", [Categorical(), Bernoulli()])
def test_a_copy_is_faithful(outcome):
    metric = fidelity(outcome)
    metric.update(logits(0), logits(0))
    values = metric.compute()
    assert values["fidelity/agreement"] == 1
    assert values["fidelity/kl"] == pytest.approx(0, abs=1e-6)


def test_is_the_mean_over_rows_whatever_the_batches():
    s, t = logits(0), logits(1)
    metric = fidelity(Categorical()).clone(prefix="val/")
    for part in (slice(0, 3), slice(3, 20)):
        metric.update(s[part], t[part])
    values = metric.compute()
    assert values["val/fidelity/agreement"] == pytest.approx((s.argmax(-1) == t.argmax(-1)).float().mean().item())
    assert values["val/fidelity/kl"] == pytest.approx(tempered_kl(s, t, 1.0).mean().item())


def test_multi_label_agreement_is_by_class():
    metric = fidelity(Bernoulli())
    metric.update(torch.tensor([[1.0, -1.0, 1.0]]), torch.tensor([[2.0, -3.0, -1.0]]))
    assert metric.compute()["fidelity/agreement"] == pytest.approx(2 / 3)
