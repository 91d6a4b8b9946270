import laws
import pytest
import torch

from kdlab.error import UserError
from kdlab.loss.logit.ctkd import kl_at
from kdlab.loss.logit.ctkd_instance import CTKDInstance
from kdlab.loss.term import ModelSpec


@pytest.fixture
def term():
    torch.manual_seed(0)
    term = CTKDInstance(rise=0.5)
    term.build_adapters(ModelSpec(classes=3), ModelSpec(classes=3), 8)
    return term.double()


def temperature(term, s, t):
    return 1 + 20 * term.net(torch.cat([t.logits, s.logits], -1)).squeeze(-1).sigmoid()


def test_is_kl_at_a_temperature_of_each_rows_own(term):
    s, t = laws.output(seed=0), laws.output(seed=1)
    own = temperature(term, s, t)
    assert len(set(own.tolist())) == 4 and (own > 1).all() and (own < 21).all()
    torch.testing.assert_close(term(s, t, 0.5), kl_at(s.logits, t.logits, own).mean())


@pytest.mark.parametrize(("progress", "strength"), [(0.0, 0.0), (0.25, 0.5), (1.0, 1.0)])
def test_the_net_gets_the_reversed_gradient_and_the_student_none_through_it(term, progress, strength):
    s, t = laws.output(seed=0), laws.output(seed=1)
    leaves = [*term.net.parameters(), s.logits]
    *net, own = torch.autograd.grad(term(s, t, progress), leaves)
    *plain, _ = torch.autograd.grad(kl_at(s.logits, t.logits, temperature(term, s, t)).mean(), leaves)
    for mine, theirs in zip(net, plain, strict=True):
        torch.testing.assert_close(mine, -strength * theirs)
    fixed = kl_at(s.logits, t.logits, temperature(term, s, t).detach()).mean()
    torch.testing.assert_close(own, torch.autograd.grad(fixed, s.logits)[0])


def test_a_step_on_the_net_makes_the_loss_larger(term):
    s, t = laws.output(seed=0), laws.output(seed=1)
    before = term(s, t, 1.0)
    before.backward()
    torch.optim.SGD(term.parameters(), lr=0.1).step()
    assert term(s, t, 1.0) > before


def test_an_equal_student_has_nothing_to_learn(term):
    s = laws.output(seed=0)
    value = term(s, laws.output(seed=0), 1.0)
    assert value.abs() < 1e-12 and torch.autograd.grad(value, s.logits)[0].abs().max() < 1e-10


@pytest.mark.parametrize(("own", "theirs"), [(0, 0), (3, 4)])
def test_models_of_other_labels_are_told(own, theirs):
    with pytest.raises(UserError, match="ctkd_instance"):
        CTKDInstance().build_adapters(ModelSpec(classes=own), ModelSpec(classes=theirs), 8)
    with pytest.raises(UserError, match="rise"):
        CTKDInstance(rise=-1.0)
