"""Teacher-mixed sampling: what is drawn, against the two distributions of each row alone."""

from __future__ import annotations

import pytest
import torch

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.generation import Sampling
from kdlab.module.samples import Samples
from kdlab.task.causal_lm import CausalLM
from kdlab.task.mixture import Mixture
from tests.task.test_task_causal_lm import model

VOCABULARY = 5


def models():
    found = [model(seed, vocab_size=VOCABULARY) for seed in (0, 1)]
    for one in found:
        for parameter in one.parameters():
            parameter.data *= 4
    return [one.eval() for one in found]


def prompts(*rows):
    """Rows of which all but the last token are the prompt."""
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
    real = torch.arange(length) < torch.tensor([len(row) for row in rows])[:, None]
    answer = torch.arange(length) == torch.tensor([len(row) - 1 for row in rows])[:, None]
    inputs = {"input_ids": ids, "attention_mask": real.long()}
    return Batch(torch.arange(len(rows)), inputs, {"answer": answer}, tokens=real)


@torch.no_grad()
def exact(student, teacher, ids, share, temperature):
    """The mixture after some tokens, without padding and without a cache."""
    found = [(one(input_ids=torch.tensor([ids])).logits[0, -1] / temperature).softmax(-1) for one in (student, teacher)]
    return (1 - share) * found[0] + share * found[1]


@pytest.mark.parametrize(("share", "temperature"), [(0.2, 1.0), (0.7, 0.5)])
def test_each_token_is_drawn_from_the_mixture(share, temperature, monkeypatch):
    student, teacher = models()
    seen = []
    real = torch.multinomial

    def noted(probabilities, num_samples):
        seen.append(probabilities)
        return real(probabilities, num_samples)

    monkeypatch.setattr(torch, "multinomial", noted)
    rows = [[1, 2, 3, 4], [2, 0]]  # the second prompt is padded by two tokens
    made = CausalLM().generate(student, prompts(*rows), Sampling(4, temperature), Mixture(teacher, share))
    assert len(seen) == 4 and made.tokens.shape == (2, 4)
    for step, probabilities in enumerate(seen):
        for row, prompt in enumerate(rows):
            ids = [*prompt[:-1], *made.tokens[row, :step].tolist()]
            torch.testing.assert_close(
                probabilities[row], exact(student, teacher, ids, share, temperature), rtol=1e-4, atol=1e-5
            )
    assert not torch.allclose(seen[0][0], exact(student, teacher, rows[0][:-1], 0.0, temperature), atol=1e-2)


def test_without_a_share_the_student_draws_alone():
    student, teacher = models()
    batch = prompts([1, 2, 0], [3, 4, 0])
    found = []
    for mix, other in ((0.0, teacher), (0.0, None), (0.5, teacher)):
        torch.manual_seed(0)
        samples = Samples(4, mix=mix)
        found.append(samples.of(CausalLM(), student, batch, 0, teacher=other).inputs["input_ids"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("given", "sentence"), [({"mix": 1.0}, "must be in"), ({"mix": 0.2, "temperature": 0}, "what is drawn")]
)
def test_what_cannot_be_mixed_is_refused(given, sentence):
    with pytest.raises(UserError, match=sentence):
        Samples(**given)
