from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from kdlab.error import UserError
from kdlab.schedule.base import Schedule, bounds, value_at
from kdlab.schedule.constant import Constant
from kdlab.schedule.cosine import Cosine
from kdlab.schedule.exponential import Exponential
from kdlab.schedule.linear import Linear
from kdlab.schedule.step import Step
from kdlab.schedule.warmup import Warmup

CONF = Path(__file__).parents[2] / "conf"
value = st.floats(-1e3, 1e3)
progress = st.floats(0, 1)


@given(value, value, progress, progress)
@pytest.mark.parametrize("shape", [Linear, Cosine])
def test_ramps_meet_their_ends_exactly_and_are_monotone(shape, start, end, early, late):
    ramp = shape(start, end)
    assert ramp(0.0) == start and ramp(1.0) == end
    early, late = sorted((early, late))
    assert (ramp(late) - ramp(early)) * (end - start) >= -1e-6
    assert ramp(1.2) == end and ramp(-0.1) == start


def test_values():
    assert Linear(0.9, 0.1)(0.25) == pytest.approx(0.7)
    assert Cosine(1.0, 0.0)(0.25) == pytest.approx(0.5 + 0.5**1.5)
    assert Constant(3)(0.7) == 3.0
    step = Step([8, 4, 1], [0.5, 0.75])
    assert [step(p) for p in (0, 0.49, 0.5, 0.74, 0.75, 1.0)] == [8, 8, 4, 4, 1, 1]
    assert value_at(0.3, 0.9) == 0.3 and value_at(Linear(0, 1), 0.9) == pytest.approx(0.9)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.booleans(), st.floats(0, 0.9))
def test_an_exponential_meets_its_ends_and_has_the_same_factor_over_equal_parts(start, end, negative, early):
    start, end = (-start, -end) if negative else (start, end)
    ramp = Exponential(start, end)
    assert (ramp(0.0), ramp(1.0), ramp(-1), ramp(2)) == (start, end, start, end)
    assert ramp(0.5) == pytest.approx((1 - 2 * negative) * (start * end) ** 0.5)
    assert ramp(early + 0.1) / ramp(early) == pytest.approx((end / start) ** 0.1)
    assert ramp.bounds() == (min(start, end), max(start, end))


def test_cosine_is_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.2)
    for i in range(11):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(Cosine(1.0, 0.2)(i / 10))
        optimizer.step()
        reference.step()


@given(st.floats(0, 0.95), progress)
def test_warmup_rises_to_what_follows_and_leaves_it_its_whole_course(warmup, p):
    schedule = Warmup(warmup, Linear(2.0, 0.5))
    assert schedule(1.0) == pytest.approx(0.5)
    assert schedule(warmup) == pytest.approx(2.0)
    if p < warmup:
        assert schedule(p) == pytest.approx(2.0 * p / warmup)
    if warmup > 0:
        assert schedule(0.0) == 0


@given(value, value)
def test_bounds_hold_all_values(a, b):
    for schedule in (Linear(a, b), Cosine(a, b), Step([a, b, a], [0.50001, 0.50002])):
        assert schedule.bounds() == (min(a, b), max(a, b))
    assert bounds(a, "x") == (a, a)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Linear("a", 1),
        lambda: Linear(None, 1),
        lambda: Cosine(0, float("nan")),
        lambda: Constant(float("inf")),
        lambda: Exponential(0, 1),
        lambda: Exponential(1, 0.0),
        lambda: Exponential(1, -1),
        lambda: Exponential(1, None),
        lambda: Step([1, 2], []),
        lambda: Step([1, 2, 3], [0.7, 0.3]),
        lambda: Step([1, 2], [1.0]),
        lambda: Step([1, 2], [50]),
        lambda: Warmup(1.0, Constant(1)),
        lambda: Warmup(-0.1, Constant(1)),
        lambda: Warmup(500, Constant(1)),
        lambda: Warmup(0.1, 1.0),
    ],
)
def test_what_cannot_work_is_told(wrong):
    with pytest.raises(UserError, match="schedule"):
        wrong()


@pytest.mark.parametrize("path", sorted(CONF.glob("schedule/*.yaml")), ids=lambda p: p.stem)
def test_every_schedule_on_disk_is_finite(path):
    schedule = instantiate(OmegaConf.load(path))
    assert isinstance(schedule, Schedule)
    assert all(abs(schedule(i / 10)) < float("inf") for i in range(11))


@pytest.mark.parametrize("path", sorted(CONF.glob("scheduler/*.yaml")), ids=lambda p: p.stem)
def test_every_learning_rate_factor_on_disk_stays_in_the_unit_interval_and_reaches_1(path):
    low, high = instantiate(OmegaConf.load(path)).bounds()
    assert low >= 0 and high == pytest.approx(1.0)
