"""Models that learn together: each as its equation says, none by another's gradient."""

from __future__ import annotations

import pytest
import torch
from hydra import initialize_config_dir
from small import SIZE, small, tiny_teacher, train
from torch.nn.functional import cross_entropy, kl_div

from kdlab.config import build, conf
from kdlab.error import UserError
from kdlab.plan import distill

TINY = [
    f"student.{key}={SIZE[key]}"
    for key in ("hidden_size", "layers", "heads", "intermediate_size", "dropout", "tokenizer")
]


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("mutual")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        words = ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}", "module=mutual", *TINY]
        yield lambda *more: small("distill", [*words, "optimizer.lr=1e-3", *more])


def learner(job):
    torch.manual_seed(job.cfg.seed)
    data = build.data(job.cfg)
    return distill.prepare(job, data).learner, next(iter(data.train_dataloader()))


THREE = ("teacher=peer", "+model@teacher.peers.bag=mlp", "teacher.peers.bag.width=8", "teacher.peers.bag.dropout=0.0")


@pytest.mark.parametrize("target", ["mean", "each"])
def test_the_loss_is_the_papers_for_every_model(base, target):
    """Zhang et al. 2018, equations 5 to 7, written out; alpha and T as in the objective."""
    rule, batch = learner(base(*THREE, f"module.target={target}", "loss.alpha=0.7", "loss.temperature=2"))
    logits = {name: rule.task.read(model, batch).logits for name, model in {"": rule.model, **rule.peers}.items()}
    assert len(logits) == 3
    for name, own in logits.items():
        others = [other.detach() for key, other in logits.items() if key != name]
        if target == "mean":
            others = [torch.stack([other.softmax(-1) for other in others]).mean(0).log()]
        kls = [4 * kl_div((own / 2).log_softmax(-1), (o / 2).softmax(-1), reduction="batchmean") for o in others]
        expected = 0.3 * cross_entropy(own, batch.target["label"]) + 0.7 * torch.stack(kls).mean()
        outputs = {key: rule.task.read(m, batch) for key, m in {"": rule.model, **rule.peers}.items()}
        torch.testing.assert_close(rule._objective(name, outputs, batch)[0], expected)


def test_no_model_learns_by_the_gradient_of_another(base):
    rule, batch = learner(base("teacher=peer"))
    said = {"": rule.task.read(rule.model, batch), "peer": rule.task.read(rule.peers["peer"], batch)}
    rule._objective("", said, batch)[0].backward()
    assert all(p.grad is None for p in rule.peers.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in rule.model.parameters())


def test_all_learn_only_the_student_is_the_model_and_first_weights_differ(base):
    result = train(base(*THREE))
    rule = result.learner
    assert result.changed and set(rule.peers) == {"peer", "bag"}
    twin = dict(rule.peers["peer"].named_parameters())
    assert any(not torch.equal(twin[name], value) for name, value in rule.model.named_parameters())
    names = {name.split(".")[0] for name in rule.state_dict()}
    assert {"model", "peers"} <= names, "all are in the checkpoint"
    assert not any(name.startswith("peers") for name in rule.model.state_dict()), "the student alone is exported"
    assert {"train/peer/loss", "train/bag/loss", "train/loss/kl"} <= set(result.logged)


def test_the_peers_move_and_freezing_holds_for_each(base):
    job = base(*THREE, "freeze=head")
    start, _ = learner(job)
    before = {name: value.clone() for name, value in start.peers.state_dict().items()}
    after = train(job).learner.peers.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in moved} == {"peer", "bag"}
    assert all("classifier" in name or "pooler" in name for name in moved), moved


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "knobs", [("loss.temperature=5",), ("loss.alpha=0.1",), ("module.target=each",), ("freeze=embeddings",)]
)
def test_every_knob_changes_what_the_student_becomes(base, knobs):
    one, two = train(base(*THREE)), train(base(*THREE, *knobs))
    assert any(not torch.equal(one.after[name], two.after[name]) for name in one.after)


def test_a_trained_teacher_and_its_student_learn_together(base, tmp_path):
    job = base("teacher=live")
    job.cfg.teacher.run = str(tiny_teacher(job, tmp_path / "teacher"))
    start, _ = learner(job)
    before = {name: value.clone() for name, value in start.peers.state_dict().items()}
    result = train(job)
    after = result.learner.peers.state_dict()
    assert result.changed and any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_what_cannot_learn_together_is_refused(base, tmp_path):
    job = base("teacher=cached")
    job.cfg.teacher.run = str(tiny_teacher(job, tmp_path / "teacher"))
    with pytest.raises(UserError, match="choose teacher=peer"):
        learner(job)
    with pytest.raises(UserError, match=r"does not offer 'hidden.-1'"):
        learner(base("teacher=peer", "loss=hint"))
    live = base("teacher=live", "loss=hint")
    live.cfg.teacher.run = job.cfg.teacher.run
    with pytest.raises(UserError, match=r"compares logits only, but a loss term reads 'hidden.-1'"):
        learner(live)
    with pytest.raises(UserError, match="teacher=peer has to learn with the student: choose module=mutual"):
        learner(base("teacher=peer", "module=distill"))
    with pytest.raises(UserError, match=r"module\.target is 'some'"):
        learner(base("teacher=peer", "module.target=some"))
