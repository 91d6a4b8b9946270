"""The mean teacher: its weights, its place in a checkpoint, and what it is at the ends of its range."""

from __future__ import annotations

import pytest
import torch
from hydra import initialize_config_dir
from small import SIZE, small, train

from kdlab.config import conf
from kdlab.error import UserError

TINY = [f"student.{key}={SIZE[key]}" for key in ("hidden_size", "layers", "heads", "intermediate_size", "tokenizer")]


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("ema")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        words = ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}", *TINY]
        yield lambda *more: small("distill", [*words, "optimizer.lr=1e-3", *more])


def floats(state):
    return {name: value for name, value in state.items() if value.is_floating_point()}


@pytest.mark.parametrize("more", [(), ("trainer.accumulate_grad_batches=2",)], ids=str)
def test_the_weights_follow_the_papers_rule_step_by_step(base, more):
    """Tarvainen & Valpola 2017, section 2, over the student's weights after each optimizer step."""
    result = train(base("teacher=ema", "teacher.decay=0.9", *more))
    assert len(result.steps) == 3
    own = floats(result.before)
    for step in result.steps:
        own = {name: 0.9 * value + 0.1 * step[name] for name, value in own.items()}
    state = result.learner.teacher.state()
    for name, value in own.items():
        torch.testing.assert_close(state[name], value)


@pytest.mark.parametrize(("decay", "place"), [(0.0, -1), (1.0, 0)])
def test_at_the_ends_it_is_the_student_or_its_beginning(base, decay, place):
    result = train(base("teacher=ema", f"teacher.decay={decay}"))
    expected = [result.before, *result.steps][place]
    assert all(torch.equal(value, expected[name]) for name, value in result.learner.teacher.state().items())


def test_self_is_the_student_and_says_what_it_says_without_dropout(base):
    result = train(base("teacher=self"))
    assert all(torch.equal(value, result.after[name]) for name, value in result.learner.teacher.state().items())


def test_the_decay_may_be_a_schedule(base):
    job = base("teacher=ema", "+schedule@teacher.decay=step", "teacher.decay.values=[0.0,1.0]")
    result = train(job)
    state = result.learner.teacher.state()
    assert all(torch.equal(value, result.steps[0][name]) for name, value in state.items()), "0 at 0, then 1"


def test_it_neither_learns_nor_is_in_the_students_state(base):
    learner = train(base("teacher=ema")).learner
    assert not any(p.requires_grad for p in learner.teacher.model.parameters())
    assert not any("teacher" in name for name in learner.state_dict() if "metric" not in name)


@pytest.mark.parametrize("decay", ["1.5", "-0.1"])
def test_a_decay_out_of_range_is_refused(base, decay):
    with pytest.raises(UserError, match=r"teacher.decay is .*must stay in \[0, 1\]"):
        train(base("teacher=ema", f"teacher.decay={decay}"))
