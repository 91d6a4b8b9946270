"""Learning from the student's own texts: which steps, from which tokens, and that nothing else enters the loss."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hydra import initialize_config_dir
from small import knob, same, train
from small_language import language, learner
from torch.nn.functional import kl_div

from kdlab.config import conf
from kdlab.error import UserError
from kdlab.generation import Generated
from kdlab.loss.logit.kl import KL
from kdlab.loss.objective import Objective
from kdlab.module.on_policy import OnPolicy
from kdlab.module.samples import Samples
from kdlab.task.causal_lm import ANSWER
from kdlab.task.sequence_classification import SequenceClassification
from kdlab.teacher.live import Live

SHORT = ("module.samples.max_new_tokens=5", "task.prompt=3")


@pytest.fixture(scope="module")
def make(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("on_policy")
    texts = folder / "texts.csv"
    texts.write_text("\n".join(line.rsplit(",", 1)[0] for line in reviews.read_text().splitlines()))
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield lambda *words: language(folder, texts, "teacher=live", "loss=kd", *words)


@pytest.fixture(scope="module")
def base(make):
    return make("module=on_policy", *SHORT)


def ready(job, monkeypatch, step=0):
    """The rule of a job at a step, and a batch."""
    rule, batch = learner(job)
    monkeypatch.setattr(type(rule), "global_step", step)
    monkeypatch.setattr(type(rule), "trainer", SimpleNamespace(accumulate_grad_batches=1))
    return rule, batch


@pytest.mark.slow
def test_without_steps_of_its_own_it_is_distillation_to_the_bit(make, base):
    plain = train(make("module=distill"))
    none = train(knob(base, "module.lmbda=0.0"))
    assert plain.changed and same(plain.after, none.after) and plain.losses == none.losses
    assert not same(plain.after, train(knob(base, "module.lmbda=1.0")).after)


@pytest.mark.parametrize("words", [(), ("module.samples.num_generations=2",), ("task.chunk=7",)], ids=str)
def test_the_loss_is_that_of_a_loop_over_what_the_student_wrote(base, monkeypatch, words):
    """Agarwal et al. 2023, algorithm 1, written out: the KL at each token of the student's answers, their mean."""
    rule, batch = ready(knob(base, "module.lmbda=1.0", "loss.alpha=0.9", "loss.temperature=2", *words), monkeypatch)
    torch.manual_seed(5)
    total = rule.training_step(batch, 0)
    torch.manual_seed(5)
    times = rule.samples.num_generations
    prompts = batch.rows(torch.arange(len(batch)).repeat_interleave(times))
    made = rule.task.generate(rule.model, prompts, rule.samples.sampling)
    assert made.tokens.shape[1] <= 5 and len(made.tokens) == 16 * times
    values = []
    for row, answer in enumerate(made.rows()):
        length = min(3, max(1, int(prompts.tokens[row].sum()) // 2))
        ids = torch.tensor([[*prompts.inputs["input_ids"][row, :length].tolist(), *answer]])
        logits = [model(input_ids=ids).logits[0, length - 1 : -1] / 2 for model in (rule.model, rule.teacher.model)]
        student, teacher = (one.log_softmax(-1) for one in logits)
        values.append(4 * kl_div(student, teacher, reduction="none", log_target=True).sum(-1))
    torch.testing.assert_close(total, 0.9 * torch.cat(values).mean())


def test_labels_count_in_steps_on_the_data_alone(base, monkeypatch):
    """On its own samples a student would learn to repeat itself."""
    rule, batch = ready(knob(base, "module.lmbda=1.0"), monkeypatch)
    logged = {}
    rule.log_values = lambda values, batch=None: logged.update(values)
    monkeypatch.setattr(type(rule.task), "supervised", lambda *_: pytest.fail("the labels' loss was asked for"))
    rule.training_step(batch, 0)
    assert "train/loss/kl" in logged and logged["train/loss/supervised"] == 0
    assert 1 <= float(logged["train/answers/tokens"]) <= 5 and 0 <= float(logged["train/answers/ended"]) <= 1


def test_the_logits_of_a_prompt_change_nothing(base, monkeypatch):
    rule, batch = ready(base, monkeypatch)
    own = rule.samples.of(rule.task, rule.model, batch, 0)
    student, teacher = rule.read(own), rule.teacher.read(rule.task, own)
    assert (student.mask.sum(1) == rule.task.reference(own).lengths).all()
    found = rule.loss.step(rule.task, student, teacher, own, 0.0, labelled=False)[0]
    counts = student.mask[..., None]
    student, teacher = (
        replace(one, logits=one.logits.where(counts, one.logits + 100 * torch.randn_like(one.logits)))
        for one in (student, teacher)
    )
    torch.testing.assert_close(found, rule.loss.step(rule.task, student, teacher, own, 0.0, labelled=False)[0])


@pytest.mark.parametrize("chunk", ["null", "7"])
def test_a_batch_without_a_token_adds_nothing(base, monkeypatch, chunk):
    rule, batch = ready(knob(base, "module.lmbda=1.0", f"task.chunk={chunk}"), monkeypatch)
    nothing = Generated.of([[]] * len(batch), pad=0)
    monkeypatch.setattr(rule.task, "generate", lambda *_: nothing)
    total = rule.training_step(batch, 0)
    total.backward()
    assert total == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in rule.model.parameters())


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_generating_leaves_gradients_and_modes_alone(base, monkeypatch, dtype):
    """Weights that autocast made half as wide while generating, without gradients, are not used in the step."""
    rule, batch = ready(knob(base, "module.lmbda=1.0"), monkeypatch)
    rule.train()
    grads = []
    for sampled in (False, True):
        rule.zero_grad()
        torch.manual_seed(5)
        own = rule.samples.of(rule.task, rule.model, batch, 0)
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            if sampled:
                rule.samples.of(rule.task, rule.model, batch, 0)
            student, teacher = rule.read(own), rule.teacher.read(rule.task, own)
            rule.loss.step(rule.task, student, teacher, own, 0.0, labelled=False)[0].backward()
        grads.append({name: p.grad.clone() for name, p in rule.model.named_parameters() if p.grad is not None})
    assert rule.model.training and len(grads[0]) == len(list(rule.model.parameters()))
    assert same(*grads)


def test_which_steps_depends_on_the_seed_and_the_step_and_is_that_share_of_them(base, monkeypatch):
    rule, _ = ready(knob(base, "module.lmbda=0.3"), monkeypatch)

    def drawn(seed):
        rule.seed, found = seed, []
        for step in range(1000):
            monkeypatch.setattr(type(rule), "global_step", step)
            found.append(rule.draws())
        return found

    first = drawn(0)
    assert first == drawn(0) != drawn(1) and 250 < sum(first) < 350
    rule.samples.reuse = 4
    assert all(len(set(found)) == 1 for found in zip(*(drawn(0)[start::4] for start in range(4)), strict=True))


def test_answers_are_used_again_and_survive_a_checkpoint(base, monkeypatch):
    rule, batch = ready(base, monkeypatch)
    samples = Samples(max_new_tokens=4, reuse=2)

    def own(of, step, micro):
        return of.of(rule.task, rule.model, batch, step, micro)

    first, other = own(samples, 0, 0), own(samples, 0, 1)
    assert not torch.equal(first.inputs["input_ids"], other.inputs["input_ids"])
    again = Samples(max_new_tokens=4, reuse=2)
    again.restore(samples.state())
    for of in (samples, again):
        kept = own(of, 1, 0)
        assert torch.equal(kept.inputs["input_ids"], first.inputs["input_ids"]) and torch.equal(kept.row, first.row)
        assert torch.equal(kept.target[ANSWER], first.target[ANSWER]) and torch.equal(kept.tokens, first.tokens)
        assert own(of, 2, 0) is not kept
    assert Samples().state() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("trainer.accumulate_grad_batches=2",),
        ("module.samples.reuse=2", "module.samples.num_generations=2"),
        ("task.chunk=5", "trainer.precision=bf16-mixed"),
        ("module.samples.temperature=0", "module.samples.top_k=3"),
        ("student.dropout=0.1",),
    ],
    ids=str,
)
def test_whole_trainings_learn_and_repeat_themselves(base, words):
    job = knob(base, "module.lmbda=0.5", "trainer.max_steps=4", *words)
    one = train(job)
    assert one.changed and torch.tensor(one.losses).isfinite().all()
    assert same(one.after, train(job).after)


TURNED = {
    "module.lmbda": "0.5", "module.samples.max_new_tokens": "3", "module.samples.temperature": "0.1",
    "module.samples.top_p": "0.5", "module.samples.top_k": "2", "module.samples.num_generations": "2",
    "module.samples.reuse": "2",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("key", TURNED)
def test_every_knob_changes_the_student(base, key):
    job = knob(base, "module.lmbda=1.0", "trainer.max_steps=2")
    assert not same(train(job).after, train(knob(job, f"{key}={TURNED[key]}")).after)


REFUSED = {
    "stored": (("teacher=cached",), "set teacher=live"),
    "no teacher": (("loss=ce",), "no term of this loss has a teacher"),
    "balance": (("loss/balance=uncertainty",), "loss/balance=none"),
    "share": (("module.lmbda=1.5",), "must stay in"),
    "greedy": (("module.samples.num_generations=2", "module.samples.temperature=0"), "temperature above 0"),
    "top_p": (("module.samples.top_p=0",), "top_p"),
    "compiled": (("compile=true",), "compile=false"),
}


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(make, case):
    words, sentence = REFUSED[case]
    with pytest.raises(UserError, match=sentence):
        rule, _ = learner(make("module=on_policy", *SHORT, *words))
        rule.compile_student(None)


def test_classes_are_refused():
    loss = Objective(1.0, terms={"kl": KL()})
    with pytest.raises(UserError, match=r"models of task=sequence_classification write none"):
        OnPolicy.accept(Live, SequenceClassification(), loss)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("+datamodule.pack=true", "metric=[causal_lm]"),
            "module=on_policy learns from answers .* set datamodule.pack=false",
        ),
        (
            ("module.samples.max_new_tokens=62",),
            "is more than the 61 positions that GPT2LMHeadModel has left after the",
        ),
        (("module.samples.max_new_tokens=61",), ""),
    ],
    ids=["packed", "no room", "room"],
)
def test_what_cannot_be_answered_is_refused_before_training(make, words, sentence):
    job = make("module=on_policy", *SHORT, *words)
    if not sentence:
        assert learner(job)
        return
    with pytest.raises(UserError, match=sentence):
        learner(job)
