import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.feature.hint import Hint
from kdlab.loss.logit.binary_kl import BinaryKL
from kdlab.loss.logit.kl import KL
from kdlab.loss.objective import Objective
from kdlab.loss.term import ModelSpec
from kdlab.outcome import Bernoulli, Categorical
from kdlab.schedule.linear import Linear
from kdlab.schedule.step import Step


def both():
    return laws.output(seed=0), laws.output(seed=1)


def label_loss(student):
    return student.logits.square().mean()


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1), st.floats(0.01, 5), st.floats(0, 5))
def test_is_the_weighted_sum(alpha, kl, hint):
    s, t = both()
    total, parts = Objective(alpha, 2.0, {"kl": KL(kl, 2.0), "hint": Hint(hint)})(label_loss(s), s, t, 0.0)
    expected = (1 - alpha) * label_loss(s) + alpha * (kl * KL(1.0, 2.0)(s, t, 0.0) + hint * Hint()(s, t, 0.0))
    torch.testing.assert_close(total, expected)
    assert set(parts) == {"supervised", "kl"} | ({"hint"} if hint else set())
    torch.testing.assert_close(parts["kl"], KL(1.0, 2.0)(s, t, 0.0).detach())
    assert not any(value.requires_grad for value in parts.values())


@pytest.mark.parametrize("change", ["alpha", "weight", "temperature"])
def test_every_setting_changes_value_and_gradient(change):
    s, t = both()
    seen = []
    for value in (0.1, 0.5, 0.9):
        has = {"alpha": 0.3, "weight": 1.0, "temperature": 2.0} | {change: value}
        objective = Objective(has["alpha"], has["temperature"], {"kl": KL(has["weight"], has["temperature"])})
        total, _ = objective(label_loss(s), s, t, 0.0)
        seen.append((total.item(), laws.gradients(total, s)["logits"].norm().item()))
    assert len({round(v, 9) for v, _ in seen}) == 3 and len({round(g, 9) for _, g in seen}) == 3, seen


def test_teacher_only_ignores_labels_wholly():
    s, t = both()
    total, _ = Objective(1.0, 1.0, {"kl": KL()})(torch.tensor(float("nan")), s, t, 0.0)
    torch.testing.assert_close(total, KL()(s, t, 0.0))


def test_labels_only_needs_no_teacher():
    s, _ = both()
    for objective in (Objective(0.0, 1.0, {}), Objective(0, 1.0, {"hint": Hint()}), Objective(0.0)):
        assert not objective.needs_teacher and objective.taps == {"student": frozenset(), "teacher": frozenset()}
        total, parts = objective(label_loss(s), s, None, 0.3)
        torch.testing.assert_close(total, label_loss(s))
        assert set(parts) == {"supervised"}
    with pytest.raises(UserError, match="no teacher was read"):
        Objective(0.5, 1.0, {"kl": KL()})(label_loss(s), s, None, 0.0)


def test_schedules_are_followed_and_told():
    s, t = both()
    objective = Objective(Linear(0.9, 0.1), 2.0, {"kl": KL(Step([1, 3], [0.5])), "hint": Hint(2.0)})
    assert objective.current(0.5) == pytest.approx({"alpha": 0.5, "kl.weight": 3.0})
    for progress, alpha, weight in ((0.0, 0.9, 1), (0.25, 0.7, 1), (1.0, 0.1, 3)):
        total, _ = objective(label_loss(s), s, t, progress)
        expected, _ = Objective(alpha, 2.0, {"kl": KL(weight), "hint": Hint(2.0)})(label_loss(s), s, t, 0.0)
        torch.testing.assert_close(total, expected)


def test_taps_are_those_of_active_terms():
    terms = {"a": Hint(), "b": Hint(0.0, {"student": "hidden.1", "teacher": "hidden.3"}), "kl": KL()}
    terms["c"] = Hint(1.0, {"student": "embedding", "teacher": "pooled"})
    taps = Objective(0.5, 1.0, terms).taps
    assert taps == {"student": {"hidden.-1", "embedding"}, "teacher": {"hidden.-1", "pooled"}}


def test_adapters_belong_to_the_objective_and_are_saved():
    objective = Objective(0.5, 1.0, {"hint": Hint()})
    objective.build_adapters(ModelSpec({"hidden.-1": 2}), ModelSpec({"hidden.-1": 3}), 8)
    assert {n: tuple(p.shape) for n, p in objective.named_parameters()} == {
        "terms.hint.adapter.weight": (3, 2),
        "terms.hint.adapter.bias": (3,),
    }


def test_terms_for_the_other_kind_of_labels_are_refused():
    Objective(0.5, 1.0, {"kl": KL(), "hint": Hint()}).check(Categorical())
    Objective(0.5, 1.0, {"kl": BinaryKL(), "hint": Hint()}).check(Bernoulli())
    with pytest.raises(UserError, match="kd_binary"):
        Objective(0.5, 1.0, {"kl": KL()}).check(Bernoulli())
    with pytest.raises(UserError, match=r"loss\.terms\.kl .*loss=kd"):
        Objective(0.5, 1.0, {"kl": BinaryKL()}).check(Categorical())


@pytest.mark.parametrize(
    ("match", "arguments"),
    [
        ("no term", {"alpha": 0.5}),
        ("no term", {"alpha": Linear(0, 1), "terms": {"kl": KL(0.0)}}),
        (r"\[0, 1\]", {"alpha": 1.5, "terms": {"kl": KL()}}),
        (r"\[0, 1\]", {"alpha": -0.1, "terms": {"kl": KL()}}),
        (r"\[0, 1\]", {"alpha": Linear(0, 2), "terms": {"kl": KL()}}),
        (r"\[0, 1\]", {"alpha": Step([0.5, 7, 0.5], [0.5001, 0.5002]), "terms": {"kl": KL()}}),
        (r"\[0, 1\]", {"alpha": float("nan"), "terms": {"kl": KL()}}),
        ("number or a schedule", {"alpha": "half", "terms": {"kl": KL()}}),
        ("number or a schedule", {"alpha": True, "terms": {"kl": KL()}}),
        ("temperature", {"alpha": 0.0, "temperature": 0.0}),
        ("temperature", {"alpha": 0.0, "temperature": Linear(4, -1)}),
        (r"loss\.terms\.kl\.weight", {"alpha": 0.5, "terms": {"kl": KL(-1.0)}}),
        (r"loss\.terms\.kl\.weight", {"alpha": 0.5, "terms": {"kl": KL(float("nan"))}}),
        ("must be a loss term", {"alpha": 0.5, "terms": {"kl": torch.nn.ReLU()}}),
        ("rename", {"alpha": 0.5, "terms": {"supervised": KL()}}),
        ("rename", {"alpha": 0.5, "terms": {"keys": KL()}}),
        ("rename", {"alpha": 0.5, "terms": {"a.b": KL()}}),
    ],
)
def test_what_cannot_work_is_told_at_construction(match, arguments):
    with pytest.raises(UserError, match=match):
        Objective(**arguments)
