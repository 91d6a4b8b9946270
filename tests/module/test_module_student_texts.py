"""MiniLLM and DistiLLM-2: their gradients and losses written out, and what they refuse."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hydra import initialize_config_dir
from small import knob, same, train
from small_language import language, learner
from torch.nn.functional import kl_div

from kdlab.batch import Batch
from kdlab.config import conf
from kdlab.error import UserError
from kdlab.freeze.none import Nothing
from kdlab.generation import Generated
from kdlab.loss.logit.reverse_kl import ReverseKL
from kdlab.loss.objective import Objective
from kdlab.metric.evaluators import Evaluators
from kdlab.module.minillm import DRAWN, MiniLLM, chosen
from kdlab.module.parts import TeacherParts
from kdlab.module.samples import Samples
from kdlab.task.causal_lm import CausalLM
from kdlab.teacher.base import Teacher
from tests.task.test_task_causal_lm import model

VOCABULARY, LENGTH = 5, 3


class Frozen(Teacher):
    def __init__(self, own):
        self.own = own

    @torch.no_grad()
    def read(self, task, batch):
        return task.read(self.own, batch)

    def widths(self):
        return {}


def minillm(**more):
    """A rule between two random models of 5 tokens, with everything that it draws known."""
    student, teacher = model(0, vocab_size=VOCABULARY), model(1, vocab_size=VOCABULARY)
    for parameter in [*student.parameters(), *teacher.parameters()]:
        parameter.data *= 4
    loss = Objective(1.0, 1.0, {"reverse_kl": ReverseKL(temperature=1.0)})
    parts = TeacherParts(
        student, CausalLM(prompt=1), torch.optim.SGD, lambda progress: 1.0, Nothing(), Evaluators({}),
        Frozen(teacher.eval()), loss,
    )  # fmt: skip
    return MiniLLM(parts, 0, Samples(LENGTH), reward_limit=1e6, most_weight=1e6, **more)


def every_text(rule):
    """All answers of three tokens to the prompt [2], in one batch."""
    texts = list(itertools.product(range(VOCABULARY), repeat=LENGTH))
    ids = torch.tensor([[2, 0]] * len(texts))
    prompts = Batch(torch.arange(len(texts)), {"input_ids": ids, "attention_mask": ids * 0 + 1}, tokens=ids >= 0)
    return rule.task.with_answers(prompts, Generated.of(texts, pad=0))


def log_p(own, batch):
    ids = batch.inputs["input_ids"]
    return own(input_ids=ids).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].sum(1)


def gradient(value, own):
    return torch.cat([one.flatten() for one in torch.autograd.grad(value, list(own.parameters()))])


def test_the_expected_gradient_is_that_of_the_reverse_kl_of_whole_texts(monkeypatch):
    """Gu et al. 2024, equation 2: over all texts, each as often as the student writes it, without normalisation."""
    rule = minillm(normalise=False, clip=1e6)
    monkeypatch.setattr(rule, "log_values", lambda *_: None)
    batch = every_text(rule)
    student, teacher = log_p(rule.model, batch), log_p(rule.teacher.own, batch).detach()
    expected = gradient((student.exp() * (student - teacher)).sum(), rule.model)
    share, found = student.detach().exp(), torch.zeros_like(expected)
    assert abs(float(share.sum()) - 1) < 1e-5
    monkeypatch.setattr(MiniLLM, "trainer", SimpleNamespace(accumulate_grad_batches=1))
    for row in range(len(batch)):
        text = rule.with_drawn(batch.rows(torch.tensor([row])))
        monkeypatch.setattr(rule, "own", lambda *_, text=text: text)
        found += share[row] * gradient(LENGTH * rule.training_step(text, 0), rule.model)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert expected.norm() > 0.1


def test_texts_that_an_older_student_wrote_are_weighed(monkeypatch):
    """The same law off policy: another model draws, and the importance weights make up for it in the first part."""
    rule = minillm()
    batch, other = every_text(rule), model(2, vocab_size=VOCABULARY)
    student = rule.read(batch)
    drawn = rule.task.read(other, batch)
    marked = replace(batch, target=batch.target | {DRAWN: chosen(drawn).detach()})
    _, weight, reward = rule.later(student, rule.teacher.read(rule.task, batch), marked)
    share = log_p(other, batch).exp()
    first = (share * weight[:, 0]).sum()  # of the first token: its mean weight is 1
    torch.testing.assert_close(first, torch.ones(()), rtol=1e-4, atol=1e-4)
    assert reward.isfinite()


def test_texts_that_the_teacher_helped_to_draw_are_weighed(monkeypatch):
    """Gu et al. 2024, section 2.2: from 0.2 teacher + 0.8 student, over all texts, each as often as drawn."""
    rule = minillm()
    rule.samples.mix = 0.2
    batch = rule.with_drawn(every_text(rule))
    student, teacher = rule.read(batch), rule.teacher.read(rule.task, batch)
    drawn = batch.target[DRAWN]
    torch.testing.assert_close(drawn.exp()[:, :3], (0.2 * chosen(teacher).exp() + 0.8 * chosen(student).exp())[:, :3])
    _, weight, _ = rule.later(student, teacher, batch)
    share = drawn[:, :3].sum(1).exp()
    torch.testing.assert_close(share.sum(), torch.ones(()), rtol=1e-4, atol=1e-4)
    for place in range(3):  # the mean weight of each token is 1, and none is above 1 / (1 - 0.2)
        torch.testing.assert_close((share * weight[:, place]).sum(), torch.ones(()), rtol=1e-4, atol=1e-4)
    assert weight.max() <= 1.25 + 1e-4


@pytest.fixture(scope="module")
def make(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("student_texts")
    texts = folder / "texts.csv"
    texts.write_text("\n".join(line.rsplit(",", 1)[0] for line in reviews.read_text().splitlines()))
    known = ("teacher=live", "loss.temperature=1", "module.samples.max_new_tokens=5", "task.prompt=3")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield lambda *words: language(folder, texts, *known[:1], *words, *known[1:])


MINILLM = ("module=minillm", "loss=reverse_kl")
DISTILLM2 = ("module=distillm2", "loss=skew_kl", "loss.alpha=1", "module.writer.max_new_tokens=5")


def skew_kl(log_p, log_q, skew):
    """KL(p || skew p + (1 - skew) q)."""
    mixed = (skew * log_p.exp() + (1 - skew) * log_q.exp()).log()
    return kl_div(mixed, log_p, reduction="none", log_target=True).sum(-1)


def test_the_loss_of_distillm2_is_the_papers(make, monkeypatch):
    rule, batch = learner(make(*DISTILLM2, "module.balance=0.25"))
    monkeypatch.setattr(type(rule), "trainer", SimpleNamespace(accumulate_grad_batches=1))
    monkeypatch.setattr(type(rule), "global_step", 0)
    torch.manual_seed(3)
    found = rule.training_step(batch, 0)
    torch.manual_seed(3)
    expected = []
    for data, reverse in ((batch, False), (rule.own(batch, 0), True)):
        student, teacher = rule.read(data), rule.teacher.read(rule.task, data)
        log_s, log_t = (one.logits[student.mask].log_softmax(-1) for one in (student, teacher))
        first, second = (log_s, log_t) if reverse else (log_t, log_s)
        expected.append(skew_kl(first, second, 0.1).mean())
    torch.testing.assert_close(found, 0.75 * expected[0] + 0.25 * expected[1])


def test_each_text_has_a_skew_of_its_own_where_it_is_adaptive(make, monkeypatch):
    """Ko et al. 2025: 1 - (1 - 0.1) m / gap, cut to [0.01, 0.1], with m the mean gap of the first step."""
    rule, batch = learner(make(*DISTILLM2, "module.adaptive=true"))
    monkeypatch.setattr(type(rule), "trainer", SimpleNamespace(accumulate_grad_batches=1))
    monkeypatch.setattr(type(rule), "global_step", 0)
    torch.manual_seed(3)
    first = rule.training_step(batch, 0)
    plain, _ = learner(make(*DISTILLM2))
    torch.manual_seed(3)
    torch.testing.assert_close(first, plain.training_step(batch, 0))

    monkeypatch.setattr(type(rule), "global_step", 1)
    reference = (rule.gaps[:, 0] / rule.gaps[:, 1]).tolist()
    assert rule.gaps[:, 1].tolist() == [16, 16]
    torch.manual_seed(4)
    found = rule.training_step(batch, 0)
    torch.manual_seed(4)
    expected, skews = [], []
    for number, data in enumerate((batch, rule.own(batch, 0))):
        student, teacher = rule.read(data), rule.teacher.read(rule.task, data)
        values = []
        for row in range(len(data)):
            mask = student.mask[row]
            log_s, log_t = (one.logits.detach()[row][mask].log_softmax(-1) for one in (student, teacher))
            at = student.label[row][mask][:, None]
            mean_s, mean_t = (one.gather(-1, at).mean().exp() for one in (log_s, log_t))
            gap = float(mean_s - mean_t if number else mean_t - mean_s)
            skews.append(min(0.1, max(0.01, 1 - 0.9 * reference[number] / gap)) if gap > 0 else 0.01)
            values.append(skew_kl(*((log_s, log_t) if number else (log_t, log_s)), skews[-1]))
        expected.append(torch.cat(values).mean())
    torch.testing.assert_close(found, 0.5 * expected[0] + 0.5 * expected[1])
    assert len({round(one, 6) for one in skews}) > 1
    kept = {}
    rule.on_save_checkpoint(kept)
    assert torch.equal(kept["gaps"], rule.gaps)


def test_the_labels_of_minillm_are_of_the_data(make, monkeypatch):
    rule, batch = learner(make(*MINILLM, "loss.alpha=0.4"))
    monkeypatch.setattr(type(rule), "trainer", SimpleNamespace(accumulate_grad_batches=1))
    monkeypatch.setattr(type(rule), "global_step", 0)
    torch.manual_seed(3)
    found = rule.training_step(batch, 0)
    torch.manual_seed(3)
    own = rule.own(batch, 0, rule.with_drawn)
    student, teacher = rule.read(own), rule.teacher.read(rule.task, own)
    later, weight, _ = rule.later(student, teacher, own)
    torch.testing.assert_close(weight, torch.ones_like(weight))
    log_s, log_t = (one.logits[student.mask].log_softmax(-1) for one in (student, teacher))
    single = kl_div(log_t, log_s, reduction="none", log_target=True).sum(-1).mean()
    supervised = rule.task.supervised(rule.read(batch), batch)
    torch.testing.assert_close(found, 0.4 * (single + later) + 0.6 * supervised)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [MINILLM, DISTILLM2], ids=["minillm", "distillm2"])
@pytest.mark.parametrize(
    "words",
    [
        (),
        ("trainer.accumulate_grad_batches=2", "module.samples.reuse=2"),
        ("trainer.precision=bf16-mixed", "student.dropout=0.1", "module.samples.num_generations=2"),
    ],
    ids=str,
)
def test_whole_trainings_learn_and_repeat_themselves(make, rule, words):
    job = knob(make(*rule), "trainer.max_steps=4", "optimizer.lr=0.1", *words)
    one = train(job)
    assert one.changed and torch.tensor(one.losses).isfinite().all()
    assert same(one.after, train(job).after)


REFUSED = {
    "minillm in parts": ((*MINILLM, "task.chunk=4"), "task.chunk=null"),
    "minillm limited": ((*MINILLM, "module.samples.top_p=0.9"), "drawn from all tokens"),
    "minillm top k": (("module=minillm", "loss=kd_top_k", "teacher.top_k=4"), "teacher.top_k=null"),
    "minillm clip": ((*MINILLM, "module.clip=0"), "module.clip is 0"),
    "minillm stored": ((*MINILLM, "teacher=cached"), "set teacher=live"),
    "distillm2 balance": ((*DISTILLM2, "module.balance=2"), "must stay in"),
    "distillm2 stored": ((*DISTILLM2, "teacher=cached"), "set teacher=live"),
}


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(make, case):
    words, sentence = REFUSED[case]
    with pytest.raises(UserError, match=sentence):
        rule, _ = learner(make(*words))
        rule.check(SimpleNamespace(strategy=SimpleNamespace()))
