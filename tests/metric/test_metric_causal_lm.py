import pytest
import torch
from torchmetrics.text import Perplexity

from kdlab.loss.logit.top_k_kl import coarsened_kl
from kdlab.metric.causal_lm import causal_lm
from kdlab.metric.fidelity import fidelity
from kdlab.outcome import Categorical
from kdlab.top_k import TopK


def said(seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(-1, 7, (3, 5), generator=generator)
    return 3 * torch.randn(3, 5, 7, generator=generator), target


def test_agrees_with_torchmetrics_whatever_the_batches():
    reference, metric = Perplexity(ignore_index=-1), causal_lm()
    hits = []
    for seed in (0, 1):
        logits, target = said(seed)
        reference.update(logits, target)
        metric.update(logits[:1], target[:1])
        metric.update(logits[1:].flatten(0, 1), target[1:].flatten())  # as chunks come
        hits.append((logits.argmax(-1) == target)[target >= 0])
    found = metric.compute()
    assert found["perplexity"] == pytest.approx(reference.compute().item(), rel=1e-5)
    assert found["accuracy"] == pytest.approx(torch.cat(hits).float().mean().item())


def test_an_impossible_token_gives_a_large_number_and_none_gives_nan():
    metric = causal_lm()
    assert metric.compute()["perplexity"].isnan()
    metric.update(torch.tensor([[0.0, 80.0]]), torch.tensor([0]))
    assert metric.compute()["perplexity"] == pytest.approx(torch.tensor(80.0).exp().item(), rel=1e-5)


def test_fidelity_to_the_largest_logits():
    (student, _), (teacher, _) = said(2), said(3)
    top = TopK.of(teacher, 3)
    metric = fidelity(Categorical(), top_k=True)
    metric.update(student[0], top.index[0], top.value[0], top.at(1.0)[0])
    found = metric.compute()
    assert found["fidelity/agreement"] == (student[0].argmax(-1) == teacher[0].argmax(-1)).float().mean()
    expected = coarsened_kl(student[0], top.index[0], top.value[0], top.at(1.0)[0], 1.0).mean()
    assert found["fidelity/kl"] == pytest.approx(expected.item())
