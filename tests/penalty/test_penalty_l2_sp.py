"""L2-SP: the formula, its gradient, what is new, and that it does not depend on how a batch is cut."""

from __future__ import annotations

import pytest
import torch
from hydra import initialize_config_dir
from small import crossed, knob, nodes, shrink, small, tiny_teacher, train
from torch import nn
from torch.nn.functional import cross_entropy

from kdlab.config import conf
from kdlab.error import UserError
from kdlab.model.block import Block
from kdlab.penalty.l2_sp import L2SP, l2_sp


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.low, self.pooler, self.classifier = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, value):
        return self.classifier(self.pooler(self.low(value)))

    def blocks(self):
        return [Block("embedding", [self.low]), Block("head", [self.pooler, self.classifier])]


def moved() -> tuple[Net, L2SP, list, list]:
    """A model that has left its start; the tensors that began somewhere, now and then."""
    model = Net()
    penalty = L2SP(alpha=0.3, beta=0.7, model=model)
    old = [*model.low.parameters(), *model.pooler.parameters()]
    start = [one.detach().clone() for one in old]
    with torch.no_grad():
        for one in model.parameters():
            one += torch.randn_like(one)
    return model, penalty, old, start


def test_the_gradient_is_that_of_the_formula():
    """The penalty written out, by autograd; the pooler began somewhere, the classifier is new."""
    model, penalty, old, start = moved()
    value = 0.3 / 2 * sum((a - b).square().sum() for a, b in zip(old, start, strict=True))
    value = value + 0.7 / 2 * sum(one.square().sum() for one in model.classifier.parameters())
    data = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    loss = cross_entropy(model(data[0]), data[1])
    goal = torch.autograd.grad(loss + value, list(model.parameters()))
    cross_entropy(model(data[0]), data[1]).backward()
    logged = penalty.add()["train/penalty/l2_sp"]
    torch.testing.assert_close(logged, value.detach())
    torch.testing.assert_close([one.grad for one in model.parameters()], list(goal))


def test_it_is_zero_at_the_start_of_a_model_without_a_new_classifier():
    weights = [torch.randn(3), torch.randn(2, 2)]
    assert l2_sp(weights, weights, [], 0.5, 0.5) == 0


def test_what_is_frozen_has_no_part_in_it():
    model, penalty, *_ = moved()
    model.low.requires_grad_(False)
    model(torch.randn(2, 3)).sum().backward()
    value = penalty.add()["train/penalty/l2_sp"]
    assert model.low.weight.grad is None
    pooled = sum((now - then).square().sum() for now, then in penalty.pairs[2:])
    new = sum(one.square().sum() for one in model.classifier.parameters())
    torch.testing.assert_close(value, (0.3 / 2 * pooled + 0.7 / 2 * new).detach())


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("penalty")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        job = small("distill", ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}", "penalty=l2_sp"])
        option = nodes("model", "optimizer", "peft", "freeze")
        job = crossed(job, student=shrink(option["model"]["bert_tiny"]), optimizer=option["optimizer"]["sgd"])
        job = knob(job, "trainer.max_steps=4", "trainer.gradient_clip_val=null", "optimizer.lr=0.1")
        job.cfg.scheduler = {"_target_": "kdlab.schedule.constant.Constant", "value": 1.0}
        job.cfg.teacher.run = str(tiny_teacher(job, folder / "teacher"))
        yield job, option


def away(result) -> float:
    return sum(float((result.after[key] - result.before[key]).square().sum()) for key in result.before)


def test_it_holds_the_weights_where_they_began(base):
    job, _ = base
    far = [away(train(knob(job, f"penalty.alpha={alpha}", "penalty.beta=0.0"))) for alpha in (0.0, 1.0, 5.0)]
    assert far[0] > far[1] > far[2] > 0
    logged = train(job).logged
    assert logged["train/penalty/l2_sp"] > 0
    assert "penalty" not in " ".join(train(knob(job, "penalty={_target_: kdlab.penalty.none.Nothing}")).logged)


def test_micro_batches_give_the_weights_of_the_whole_batch(base):
    job, _ = base
    whole, parts = train(job), train(knob(job, "trainer.accumulate_grad_batches=4"))
    assert max(float((whole.after[key] - parts.after[key]).abs().max()) for key in whole.after) < 1e-6


def test_weights_that_begin_to_learn_later_are_pulled_to_the_same_start(base):
    job, option = base
    result = train(knob(crossed(job, freeze=option["freeze"]["gradual"]), "penalty.alpha=5.0"))
    free = train(knob(crossed(job, freeze=option["freeze"]["gradual"]), "penalty.alpha=0.0"))
    assert 0 < away(result) < away(free)


def test_what_makes_no_sense_is_refused(base):
    job, option = base
    with pytest.raises(UserError, match="a number from 0 up"):
        train(knob(job, "penalty.alpha=-1"))
    with pytest.raises(UserError, match="penalty=none or peft=none"):
        train(crossed(job, peft=option["peft"]["lora"]))
