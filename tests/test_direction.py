"""Every metric owns its direction, and readers take it from there."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection

from kdlab.config.build import evaluators
from kdlab.config.direction import LABELS, higher_is_better, installed
from kdlab.direction import declaration, declared, gathered, mode
from kdlab.error import UserError
from kdlab.metric.fidelity import fidelity
from kdlab.outcome import Categorical
from kdlab.task.causal_lm import CausalLM
from kdlab.task.regression import Regression
from kdlab.task.sequence_classification import SequenceClassification

CONF = Path(__file__).parents[1] / "conf"
NEITHER = {  # of which a number in between is best, or none
    "generation/length_ratio", "calibration/temperature", "calibration/lac_coverage", "calibration/aps_coverage",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(CONF.glob("metric/*.yaml")), ids=lambda p: p.stem)
def test_every_metric_on_disk_declares_its_direction_and_is_known_without_a_record(path):
    task = {"causal_lm": CausalLM, "regression": Regression}.get(path.stem, SequenceClassification)()
    found = evaluators(OmegaConf.load(path), task, LABELS).higher_is_better
    assert found or path.stem == "none"
    assert {name for name, more in found.items() if more is None} <= NEITHER
    assert {name: higher_is_better(f"test/{name}") for name in found} == found


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("val/accuracy", True), ("test/f1_macro", True), ("best/val/accuracy", True), ("teacher/test/accuracy", True),
        ("test/fidelity/agreement", True), ("val/peer1/accuracy", True), ("perf/samples_per_second", True),
        ("test/fidelity/kl", False), ("test/ece", False), ("val/perplexity", False), ("best/val/loss", False),
        ("train/loss/kl", False), ("train/loss/accuracy", False), ("train/peer1/loss", False),
        ("perf/step_ms", False), ("perf/teacher_seconds", False), ("perf/padding", False), ("perf/latency_ms", False),
        ("teacher/members/big/model/parameters", False), ("model/size_mb", False), ("seconds", False),
        ("best/step", None), ("train/schedule/temperature", None), ("test/applause", None), ("kl", None),
    ],
)  # fmt: skip
def test_direction_of_a_logged_name(name, more):
    assert higher_is_better(name) is more


class Applause(Metric):
    higher_is_better = True

    def update(self, x: torch.Tensor) -> None: ...

    def compute(self) -> torch.Tensor:
        return torch.tensor(1.0)


def test_metrics_of_a_users_own_speak_for_themselves():
    own = declared(
        MetricCollection(
            {"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False), "ece": Applause()}, prefix="val/"
        )
    )
    assert own == {"mae": False, "rmse": False, "ece": True}
    assert higher_is_better("test/rmse", own) is False
    assert higher_is_better("test/ece", own) is True  # not kdlab's own of that name
    assert higher_is_better("test/fidelity/kl", own) is False


def test_fidelity_declares_both():
    assert declared(fidelity(Categorical()).clone(prefix="val/")) == {"fidelity/agreement": True, "fidelity/kl": False}


def test_records_are_gathered_and_contradictions_have_no_direction():
    runs = [{"higher_is_better": {"a": True, "b": False, "c": None}}, {"higher_is_better": {"a": False, "b": False}}]
    assert gathered([*runs, {}, {"higher_is_better": [1]}, {"higher_is_better": {"b": "up", "d": 3}}]) == {
        "a": None, "b": False, "c": None,
    }  # fmt: skip


@given(st.lists(st.sampled_from(["loss", "accuracy", "kl", "val", "x"]), min_size=1, max_size=4).map("/".join))
def test_a_declaration_is_a_run_of_whole_segments(name):
    found = declaration(name, {"loss": False, "accuracy": True, "x/kl": False})
    assert found is None or f"/{found}/" in f"/{name}/"


def test_mode_follows_the_metric():
    assert [mode(name, None, installed()) for name in ("val/loss", "val/accuracy", "val/fidelity/kl")] == [
        "min",
        "max",
        "min",
    ]
    assert mode("val/applause", "min", {}) == "min"
    with pytest.raises(UserError, match=r"at.mode=max, but less of val/loss is better: set it to min or null\."):
        mode("val/loss", "max", {"loss": False}, where="at.mode")
    with pytest.raises(UserError, match=r"mode is null, but val/applause does not declare whether more is better"):
        mode("val/applause", None, {})
    with pytest.raises(UserError, match=r"mode=up is unknown: choose max or min, or null"):
        mode("val/loss", "up", {})


def test_nothing_that_kdlab_logs_is_without_a_declaration():
    assert {name for name, more in installed().items() if more is None} == {
        "step", "schedule", "majority", "test/rows", *NEITHER,
    }  # fmt: skip
