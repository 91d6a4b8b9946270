import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torchmetrics.text import Perplexity

from kdlab.loss.logit.top_k_kl import coarsened_kl
from kdlab.metric.causal_lm import BitsPerByte, causal_lm
from kdlab.metric.fidelity import fidelity
from kdlab.metric.scores import Scores
from kdlab.outcome import Categorical
from kdlab.top_k import TopK


def random_logits(seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(-1, 7, (3, 5), generator=generator)
    return 3 * torch.randn(3, 5, 7, generator=generator), target


def test_agrees_with_torchmetrics_whatever_the_batches():
    reference, metric = Perplexity(ignore_index=-1), causal_lm()
    hits = []
    for seed in (0, 1):
        logits, target = random_logits(seed)
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
    (student, _), (teacher, _) = random_logits(2), random_logits(3)
    top = TopK.of(teacher, 3)
    metric = fidelity(Categorical(), top_k=True)
    metric.update(student[0], top.index[0], top.value[0], top.at(1.0)[0])
    found = metric.compute()
    assert found["fidelity/agreement"] == (student[0].argmax(-1) == teacher[0].argmax(-1)).float().mean()
    expected = coarsened_kl(student[0], top.index[0], top.value[0], top.at(1.0)[0], 1.0).mean()
    assert found["fidelity/kl"] == pytest.approx(expected.item())


@dataclass
class Sized:
    """A processor that knows how long its tokens are."""

    sizes: list[int] | None

    def token_bytes(self):
        return None if self.sizes is None else np.array(self.sizes)


def test_bits_per_byte_are_the_bits_of_the_text_over_its_size():
    logits, target = random_logits(4)
    metric = BitsPerByte()
    metric.learn(Sized([1, 2, 3, 4, 5, 6, 0]))
    metric.update(logits[:2], target[:2])
    metric.update(logits[2:], target[2:])
    bits = size = 0.0
    for row, token in zip(logits.flatten(0, 1), target.flatten(), strict=True):
        if token >= 0:
            bits -= math.log2(row.double().softmax(-1)[token])
            size += [1, 2, 3, 4, 5, 6, 0][token]
    assert metric.compute() == pytest.approx(bits / size, rel=1e-6)


def test_bits_per_byte_do_not_depend_on_how_a_text_is_cut_into_tokens():
    """One model of pairs of letters, and one of letters that gives each text the same probability."""
    letters, pairs = BitsPerByte(), BitsPerByte()
    letters.learn(Sized([1, 1])), pairs.learn(Sized([2, 2, 2, 2]))
    each = torch.tensor([0.3, 0.7]).log()
    both = (each[:, None] + each).flatten()
    text = torch.tensor([0, 1, 1, 1, 0, 0])
    letters.update(each.expand(6, 2), text)
    pairs.update(both.expand(3, 4), 2 * text[::2] + text[1::2])
    assert letters.compute() == pytest.approx(pairs.compute().item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_bits_per_byte_of_half_precision_are_those_of_the_same_numbers(dtype):
    logits, target = random_logits(5)
    found = []
    for one in (logits.to(dtype), logits.to(dtype).float()):
        metric = BitsPerByte()
        metric.learn(Sized([1] * 7))
        metric.update(one, target)
        found.append(metric.compute().item())
    assert found[0] == found[1]


def test_where_the_size_of_tokens_is_not_known_they_are_left_out():
    scores, (logits, target) = Scores(causal_lm()), random_logits(6)
    scores.metrics.update(logits, target)
    assert set(scores.compute()) == {"accuracy", "perplexity"}
    assert scores.higher_is_better["bits_per_byte"] is False
