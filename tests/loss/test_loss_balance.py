"""The parts of a loss, balanced: each rule written out, and what all keep to."""

from pathlib import Path

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from kdlab.error import UserError
from kdlab.loss.balance.dwa import DWA
from kdlab.loss.balance.gradnorm import GradNorm, distance
from kdlab.loss.balance.none import Plain
from kdlab.loss.balance.uncertainty import Uncertainty
from kdlab.loss.feature.hint import Hint
from kdlab.loss.logit.kl import KL
from kdlab.loss.objective import Objective
from kdlab.schedule.linear import Linear

CONF = Path(__file__).parents[2] / "conf/loss/balance"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))
PARTS = ("supervised", "kl", "hint")


def make(name, **more):
    from hydra.utils import instantiate

    return instantiate(OmegaConf.load(CONF / f"{name}.yaml"), **more)


class Quadratic(nn.Module):
    """A model of one vector, and parts ``c_j * |x - x_j|^2`` that share it."""

    def __init__(self, scales):
        super().__init__()
        self.x = nn.Parameter(torch.ones(3))
        self.scales, self.goals = scales, [torch.eye(3)[place] for place in range(len(scales))]

    def parts(self):
        return {
            name: scale * (self.x - goal).square().sum()
            for name, scale, goal in zip(PARTS, self.scales, self.goals, strict=True)
        }


def learn(balance, model, steps=400, lr=0.0, share=None, progress=lambda step: step / 400):
    """Train factors, and at ``lr`` the model; the factors at the end."""
    balance.connect(PARTS)
    balance.watch(model)
    balance.train()
    share = dict.fromkeys(PARTS, 1.0) if share is None else share
    groups = [{"params": [model.x], "lr": lr}, *balance.groups]
    optimizer = torch.optim.Adam(groups, lr=1e-3)
    for step in range(steps):
        optimizer.zero_grad()
        balance(model.parts(), share, progress(step)).backward()
        optimizer.step()
    return balance.current


@pytest.mark.parametrize("name", OPTIONS)
def test_every_balance_begins_as_the_plain_sum(name):
    model, balance = Quadratic([1.0, 5.0, 0.2]), make(name)
    balance.connect(PARTS)
    balance.watch(model)
    share = {"supervised": 0.25, "kl": 0.75, "hint": 1.5}
    expected = sum(share[part] * value for part, value in model.parts().items())
    total = balance(model.parts(), share, 0.0)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(
        torch.autograd.grad(total, model.x), torch.autograd.grad(Plain()(model.parts(), share, 0.0), model.x)
    )


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "none"])
def test_equal_parts_keep_equal_factors(name):
    weights = learn(make(name), Quadratic([2.0, 2.0, 2.0]), 60, 1e-3, progress=lambda step: step / 60)
    values = [float(weights[part]) for part in PARTS]
    assert values == pytest.approx([values[0]] * 3, rel=0.03 if name == "gradnorm" else 1e-4), "steps of its lr"


@pytest.mark.parametrize("name", OPTIONS)
def test_a_share_stays_meaningful(name):
    """What alpha and the weights give a part matters however it is balanced: twice the share, twice the gradient."""
    model, balance = Quadratic([1.0, 5.0, 0.2]), make(name)
    learn(balance, model, 300)
    balance.eval()

    def pull(share):
        own = dict.fromkeys(PARTS, 0.0) | {"kl": share}
        return torch.autograd.grad(balance(model.parts(), own, 1.0), model.x)[0]

    torch.testing.assert_close(pull(0.8), 2 * pull(0.4))
    assert pull(0.8).norm() > 0


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_uncertainty_is_its_formula_and_ends_where_that_is_least(share):
    model = Quadratic([1.0, 5.0, 0.2])
    balance = Uncertainty(lr=0.05)
    balance.connect(PARTS)
    with torch.no_grad():
        balance.log_variance.copy_(torch.tensor([0.3, -1.0, 2.0]))
    losses = {name: value.item() for name, value in model.parts().items()}
    expected = sum(
        share * (losses[name] / torch.tensor(s).exp().item() + s / 2)
        for name, s in zip(PARTS, (0.3, -1.0, 2.0), strict=True)
    )
    assert balance(model.parts(), dict.fromkeys(PARTS, share), 0.0).item() == pytest.approx(expected, rel=1e-5)
    factors = learn(Uncertainty(lr=0.05), model, 800, share=dict.fromkeys(PARTS, share))
    for name, loss in losses.items():
        assert float(factors[name]) == pytest.approx(1 / (2 * loss), rel=0.02), "sigma^2 = 2 L"


@settings(max_examples=15)
@given(st.lists(st.lists(st.floats(0.1, 5), min_size=3, max_size=3), min_size=4, max_size=4), st.floats(0.5, 4))
def test_dwa_is_its_formula(losses, temperature):
    """Four periods of two batches each; what a period's batches are in the mean is what is written down."""
    balance = DWA(temperature, periods=4)
    balance.connect(PARTS)
    for period, means in enumerate(losses):
        factors = torch.ones(3)
        if period >= 2:
            ratio = torch.tensor(losses[period - 1]).double() / torch.tensor(losses[period - 2]).double()
            factors = 3 * (ratio / temperature).exp() / (ratio / temperature).exp().sum()
        for part, swing in enumerate((0.5, 1.5)):
            parts = {name: torch.tensor(swing * mean) for name, mean in zip(PARTS, means, strict=True)}
            total = balance(parts, {"supervised": 0.2, "kl": 0.8, "hint": 0.4}, (period + part / 2) / 4)
            expected = swing * sum(f * s * m for f, s, m in zip(factors.tolist(), (0.2, 0.8, 0.4), means, strict=True))
            assert total.item() == pytest.approx(expected, rel=1e-4)
        assert sum(map(float, balance.current.values())) == pytest.approx(3, rel=1e-5), "the number of parts"


def test_dwa_counts_periods_as_epochs_where_it_is_told_their_number():
    period, epochs, steps = DWA(periods=5).period, 5, 8
    seen = [period(step / (epochs * steps - 1)) for step in range(epochs * steps)]
    assert seen == [epoch for epoch in range(epochs) for _ in range(steps)]


def test_gradnorms_distance_is_its_formula_and_pulls_on_its_own_weight_alone():
    weight = torch.tensor([0.5, 2.0, 0.5], requires_grad=True)
    norm, loss, first = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([1.0, 0.5, 2.0]), torch.tensor([2.0, 2.0, 2.0])
    rate = torch.tensor([0.5, 0.25, 1.0]) / (1.75 / 3)
    goal = (0.5 + 6.0 + 1.0) / 3 * rate**1.5
    value = distance(weight, norm, loss, first, 1.5)
    torch.testing.assert_close(value, (torch.tensor([0.5, 6.0, 1.0]) - goal).abs().sum())
    torch.testing.assert_close(
        torch.autograd.grad(value, weight)[0], torch.sign(torch.tensor([0.5, 6.0, 1.0]) - goal) * norm
    )


@pytest.mark.slow
def test_gradnorm_makes_the_norms_equal_and_its_weights_sum_to_the_number_of_parts():
    model = Quadratic([1.0, 8.0, 0.3])
    balance = GradNorm(asymmetry=0.0, lr=0.005)
    weights = learn(balance, model, 1500)
    norms = [torch.autograd.grad(value, model.x)[0].norm() for value in model.parts().values()]
    pulls = torch.stack([weights[name] * norm for name, norm in zip(PARTS, norms, strict=True)])
    assert (pulls.std() / pulls.mean()) < 0.1, pulls
    balance.eval()
    balance(model.parts(), dict.fromkeys(PARTS, 1.0), 0.0)
    assert sum(float(balance.current[name]) for name in PARTS) == pytest.approx(3, rel=1e-5)


def test_gradnorm_leaves_value_and_gradient_of_the_student_alone():
    model, balance = Quadratic([1.0, 8.0, 0.3]), GradNorm()
    balance.connect(PARTS)
    balance.watch(model)
    total = balance(model.parts(), dict.fromkeys(PARTS, 1.0), 0.0)
    torch.testing.assert_close(total, sum(model.parts().values()))
    total.backward()
    torch.testing.assert_close(model.x.grad, torch.autograd.grad(sum(model.parts().values()), model.x)[0])
    assert balance.weight.grad.abs().sum() > 0 and balance.current["gap"] > 0
    assert not any("x" in name for name, _ in balance.named_parameters()), "the student is no part of its loss"


@pytest.mark.parametrize("name", OPTIONS)
def test_labels_only_needs_no_teacher(name):
    s = laws.output(seed=0)
    for alpha, terms in ((0.0, {}), (0.0, {"kl": KL()})):
        objective = Objective(alpha, 1.0, terms, make(name))
        assert not objective.needs_teacher and objective.parts == ["supervised"]
        loss = s.logits.square().mean()
        torch.testing.assert_close(objective(loss, s, None, 0.3)[0], loss, check_dtype=False)


@pytest.mark.parametrize("name", OPTIONS)
def test_what_never_counts_is_not_balanced_and_what_counts_at_times_is(name):
    s, t = laws.output(seed=0), laws.output(seed=1)
    terms = {"kl": KL(), "hint": Hint(0.0)}
    assert Objective(1.0, 1.0, terms, make(name)).parts == ["kl"]
    objective = Objective(Linear(1.0, 0.0), 1.0, terms, make(name)).eval()
    assert objective.parts == ["supervised", "kl"]
    torch.testing.assert_close(objective(s.logits.square().mean(), s, t, 0.0)[0], KL()(s, t, 0.0), check_dtype=False)
    balanced = [key for key in objective.current(0.0) if key.startswith("balance.") and "gap" not in key]
    assert balanced == ([] if name == "none" else ["balance.supervised", "balance.kl"])


def test_what_a_balance_learns_is_apart_from_the_adapters_and_not_decayed():
    objective = Objective(0.5, 1.0, {"hint": Hint()}, Uncertainty(lr=0.3))
    (group,) = objective.groups
    assert group["lr"] == 0.3 and group["weight_decay"] == 0 and group["params"] == [objective.balance.log_variance]


@pytest.mark.parametrize("wrong", [
    lambda: Uncertainty(lr=0), lambda: DWA(temperature=0), lambda: DWA(periods=0), lambda: GradNorm(asymmetry=-1),
    lambda: GradNorm(lr="fast"),
])  # fmt: skip
def test_what_cannot_work_is_told(wrong):
    with pytest.raises(UserError, match=r"loss\.balance"):
        wrong()
