"""What a loss learns itself has rates of its own, at which it gets somewhere."""

from functools import partial

import pytest
import torch
from layered import ready

from kdlab.error import UserError
from kdlab.loss.feature.vid import VID
from kdlab.loss.logit.ctkd import CTKD, kl_at
from kdlab.loss.objective import Objective
from kdlab.loss.rates import settled
from kdlab.output import Output

ADAMW = partial(torch.optim.AdamW, lr=5e-5, weight_decay=0.01)  # as a student is trained
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=5e-4)  # as in the authors' code


def trained(objective, optimizer, student, teacher, steps):
    groups = settled(objective.groups, optimizer.func)
    taught = optimizer(groups)
    for _ in range(steps):
        taught.zero_grad()
        objective(torch.zeros(()), student, teacher, 1.0)[0].backward()
        taught.step()
    return groups


def outputs(rows=64):
    torch.manual_seed(0)
    goal = 4 * torch.randn(rows, 10)
    mask = torch.ones(rows, dtype=torch.bool)
    return Output(0.5 * goal + torch.randn(rows, 10), mask), Output(goal, mask)


def test_the_temperature_moves_as_in_the_authors_code_under_sgd():
    """The value descends on minus the loss, with their learning rate, momentum and decay."""
    term, (student, teacher) = CTKD(), outputs()
    trained(Objective(1.0, terms={"ctkd": term}), SGD, student, teacher, 30)
    value = torch.ones((), requires_grad=True)
    theirs = torch.optim.SGD([value], 0.05, 0.9, weight_decay=5e-4)
    for _ in range(30):
        theirs.zero_grad()
        (-kl_at(student.logits, teacher.logits, 1 + 20 * value.sigmoid()).mean()).backward()
        theirs.step()
    torch.testing.assert_close(term.value, value)
    assert (value - 1).abs() > 0.03


def test_the_temperature_moves_under_adamw_and_stays_off_its_ends():
    term, (student, teacher) = CTKD(), outputs()
    (group,) = trained(Objective(1.0, terms={"ctkd": term}), ADAMW, student, teacher, 400)
    assert group["lr"] == 0.001 and group["weight_decay"] == 5e-4
    assert 0.3 < (term.value - 1).abs() < 0.5, "the student's own 5e-5 would leave it within 0.02"


def test_a_variance_comes_down_to_the_error():
    term, student, teacher = ready(VID(layer_map=None, taps={"student": "pooled", "teacher": "pooled"}))
    goal = term.adapters[0].mean(student.taps["pooled"]).detach() + 0.1
    close = Output(teacher.logits, teacher.mask, {"pooled": goal}, teacher.tokens)
    adapters, variances = trained(Objective(1.0, terms={"vid": term}), ADAMW, student, close, 400)
    assert (adapters["name"], variances["name"]) == ("adapters", "terms.vid")
    assert adapters["lr"] == 5e-5 and variances["lr"] == 0.05 and len(variances["params"]) == 1
    assert term.adapters[0].variance.max() < 0.1, "from 5 to near 0.01"


def test_rates_are_the_users_to_set():
    (group,) = settled(Objective(1.0, terms={"ctkd": CTKD(lr=0.2, weight_decay=0.0)}).groups, torch.optim.AdamW)
    assert (group["lr"], group["weight_decay"], group["name"]) == (0.2, 0.0, "terms.ctkd")
    for wrong in ({"lr": 0.0}, {"lr": "fast"}, {"weight_decay": -1.0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            CTKD(**wrong)
