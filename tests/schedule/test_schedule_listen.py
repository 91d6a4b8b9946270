"""Schedules that follow the validation: their rule, against torch's, and that a checkpoint takes them up again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.schedule.base import schedules_of
from kdlab.schedule.early_stop import EarlyStop
from kdlab.schedule.linear import Linear
from kdlab.schedule.patience import Patience
from kdlab.schedule.plateau import Plateau
from kdlab.schedule.warmup import Warmup

metrics = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, float("nan")]), max_size=30)


def values(schedule, course, progress=0.5):
    seen = []
    for value in course:
        schedule.observe({"primary": value, "val/other": 9.0})
        seen.append(schedule(progress))
    return seen


@given(st.lists(st.floats(0, 1), max_size=40), st.integers(1, 4), st.sampled_from([0.0, 0.05]))
def test_plateau_falls_when_torchs_does(course, patience, delta):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", 0.5, patience - 1, delta, "abs", min_lr=0.1, eps=0.0
    )
    mine = Plateau(0.8, 0.5, 0.1, 1.0, patience, min_delta=delta)
    for value in course:
        reference.step(value)
        assert values(mine, [value]) == [pytest.approx(optimizer.param_groups[0]["lr"])]


def test_plateau_rises_too_and_stays_within_its_bounds():
    rising = Plateau(1.0, 2.0, 0.5, 3.0, 1, mode="min")
    assert rising.bounds() == (1.0, 3.0) and Plateau(0.9, 0.5, 0.2).bounds() == (0.2, 0.9)
    assert values(rising, [0.5, 0.4, 0.4, 0.3, 0.6, 0.7]) == [1, 1, 2, 2, 3, 3]


def test_early_stop_ends_for_good():
    stop = EarlyStop(0.9, 0.1, patience=2)
    assert values(stop, [0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.9]) == [0.9] * 5 + [0.1, 0.1]
    timed = EarlyStop(0.9, until=0.5, patience=None)
    assert [timed(p) for p in (0, 0.49, 0.5, 1)] == [0.9, 0.9, 0.0, 0.0] and timed.monitor is None
    assert values(EarlyStop(0.9, until=0.75, patience=1), [0.5, 0.5], 0.5) == [0.9, 0.0]
    assert EarlyStop(0.2, 0.7).bounds() == (0.2, 0.7)


@given(metrics, metrics, st.sampled_from(["plateau", "stop"]))
def test_what_a_checkpoint_remembers_is_enough_to_go_on(before, after, kind):
    def make():
        return Plateau(0.8, 0.5, patience=2) if kind == "plateau" else EarlyStop(0.8, patience=3)

    one, two = make(), make()
    values(one, before)
    two.restore(one.state())
    assert two.state() == one.state() and values(one, after) == values(two, after)
    assert all(value is None or isinstance(value, int | float) for value in one.state().values())


def test_a_number_that_is_none_is_no_gain():
    patience = Patience("val/loss", "min", 1, 0.0)
    assert [patience.ends({"val/loss": v}) for v in (float("nan"), 1.0, float("nan"), 0.5)] == [
        True,
        False,
        True,
        False,
    ]


def test_what_was_not_measured_is_told():
    with pytest.raises(UserError, match=r"schedule.monitor=val/acuracy was not logged .* val/accuracy"):
        Plateau(0.5, monitor="val/acuracy").observe({"val/accuracy": 1.0, "train/loss": 2.0})


def test_schedules_are_found_within_schedules():
    inner = Linear(1, 0)
    outer = Warmup(0.1, inner)
    owner = torch.nn.Module()
    owner.weight = outer
    assert list(schedules_of(owner)) == [outer, inner]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Plateau(1.5),
        lambda: Plateau(0.5, 1.0),
        lambda: Plateau(0.5, -0.5),
        lambda: Plateau(0.5, patience=0),
        lambda: Plateau(0.5, mode="best"),
        lambda: Plateau(0.5, min_delta=-1),
        lambda: EarlyStop(0.5, patience=None),
        lambda: EarlyStop(0.5, until=1.5),
        lambda: EarlyStop(None),
    ],
)
def test_what_cannot_work_is_told(wrong):
    with pytest.raises(UserError, match="schedule"):
        wrong()
