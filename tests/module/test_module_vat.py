"""Virtual adversarial training: the perturbation's laws, and what a step learns from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hydra import initialize_config_dir
from small import SIZE, same, small, train
from torch.nn.functional import cross_entropy, kl_div

from kdlab.config import build, conf
from kdlab.error import UserError
from kdlab.module.vat import perturbed
from kdlab.plan import distill

TINY = [f"student.{key}={SIZE[key]}" for key in ("hidden_size", "layers", "heads", "intermediate_size", "tokenizer")]


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("vat")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        words = ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}", "module=vat", "teacher=self"]
        words += ["loss.temperature=1", "optimizer.lr=1e-3"]
        yield lambda *more: small("distill", [*words, *(more if "model@student=linear" in more else [*TINY, *more])])


def learner(job):
    torch.manual_seed(job.cfg.seed)
    data = build.data(job.cfg)
    rule = distill.prepare(job, data).learner
    for parameter in rule.model.parameters():
        parameter.data *= 4  # random weights of the usual scale say the same of every text
    rule.teacher.follow(rule.model, 0.0)
    return rule, next(iter(data.train_dataloader()))


def change(rule, batch, step):
    """The mean KL from what the student says to what it says on moved embeddings, without dropout."""
    rule.model.eval()
    with torch.no_grad():
        said = rule.task.read(rule.model, batch).logits
        with perturbed(rule.embedding[0], step):
            other = rule.task.read(rule.model, batch).logits
    return float(kl_div(other.log_softmax(-1), said.softmax(-1), reduction="batchmean"))


def test_the_step_has_its_norm_leaves_padding_alone_and_changes_more_than_chance(base):
    rule, batch = learner(base("module.epsilon=0.5", "module.iterations=2"))
    modes = [module.training for module in rule.model.modules()]
    torch.manual_seed(0)
    step = rule.adversary(batch)
    assert [module.training for module in rule.model.modules()] == modes
    assert all(parameter.grad is None for parameter in rule.model.parameters())
    torch.testing.assert_close(step.flatten(1).norm(dim=1), torch.full((len(step),), 0.5))
    assert (step[~batch.tokens] == 0).all() and (~batch.tokens).any()
    chance = torch.randn_like(step) * batch.tokens[..., None]
    chance = 0.5 * chance / chance.flatten(1).norm(dim=1)[:, None, None]
    assert change(rule, batch, step) > 2 * change(rule, batch, chance) > 0


def test_the_loss_is_the_papers(base, monkeypatch):
    """Miyato et al. 2018, equations 5 to 8: CE on the labels, KL from the clean to the perturbed on all rows."""
    rule, batch = learner(base("student.dropout=0.0", "loss.alpha=0.3"))
    monkeypatch.setattr(rule, "log_dict", lambda *_, **__: None)
    monkeypatch.setattr(type(rule), "progress", 0.0)
    batch.target["label"][:5] = -1
    batch = replace(batch, size={**batch.size, "labelled": float((batch.target["label"] >= 0).sum())})
    torch.manual_seed(3)
    loss = rule.training_step(batch, 0)
    torch.manual_seed(3)
    step = rule.adversary(batch)
    rule.model.eval()
    own = rule.task.read(rule.model, batch).logits
    with perturbed(rule.embedding[0], step):
        near = rule.task.read(rule.model, batch).logits
    divergence = kl_div(near.log_softmax(-1), own.softmax(-1), reduction="batchmean")
    expected = 0.7 * cross_entropy(own, batch.target["label"], ignore_index=-1) + 0.3 * divergence
    torch.testing.assert_close(loss, expected)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("knob", ["module.epsilon=5", "module.xi=1", "module.iterations=2", "module=distill"])
def test_every_knob_changes_the_student(base, knob):
    plain, turned = train(base()), train(base(knob))
    assert plain.changed and not same(plain.after, turned.after)


def test_what_cannot_be_moved_is_refused(base):
    with pytest.raises(UserError, match=r"module\.epsilon is 0"):
        learner(base("module.epsilon=0"))
    with pytest.raises(UserError, match="never computes: choose a transformer"):
        train(base("model@student=linear", "student.tokenizer=train:wordpiece:200"))
