"""What an option chooses of other groups: it fits, and what a user or an experiment chooses wins over it."""

from __future__ import annotations

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from kdlab.config import conf
from kdlab.config.option import composing, menu

ROOT = conf()
PREFIX = "override "
VERBAL = ("experiment", "debug", "cluster", "sweep")  # for one verb, or about Hydra


def chosen_by(file):
    """group, place and option of every override in the defaults of a file."""
    for entry in (yaml.safe_load(file.read_text()) or {}).get("defaults", []):
        for key, option in entry.items() if isinstance(entry, dict) else ():
            if key.startswith(PREFIX):
                group, _, place = key.removeprefix(PREFIX).strip().lstrip("/").partition("@")
                yield group, place, option


OPTIONS = [
    file
    for file in sorted(ROOT.rglob("*.yaml"))
    if file.parent != ROOT and file.parent.name not in VERBAL and list(chosen_by(file))
]


def places(verb: str) -> set[str]:
    found = set()
    for entry in OmegaConf.load(ROOT / f"{verb}.yaml").defaults:
        for key in entry if OmegaConf.is_dict(entry) else ():
            group, _, place = str(key).partition("@")
            found.add((group, place or group))
    return found


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: str(file.relative_to(ROOT)))
def test_an_option_chooses_options_that_are_there(file):
    known = places("distill") | places("finetune")
    for group, place, option in chosen_by(file):
        assert place.startswith("_global_."), f"{group}: without _global_ Hydra looks for it inside of the option"
        assert (group, place.removeprefix("_global_.")) in known, f"no verb has {group}@{place}"
        for name in option if isinstance(option, list) else [option]:
            assert (ROOT / group / f"{name}.yaml").is_file(), f"there is no {group}={name}"


@pytest.mark.sampled(4, tried="all")
@pytest.mark.parametrize(
    ("verb", "words", "expected"),
    [
        ("distill", ["task=causal_lm"], {"metric": "", "model@teacher.model": "smollm2", "loss": "kd_top_k"}),
        ("finetune", ["task=causal_lm"], {"model": "smollm2"}),
        ("distill", ["datamodule=pairs"], {"task": "seq2seq", "model@teacher.model": "seq2seq_tiny"}),
        ("distill", ["datamodule=pairs", "module=on_policy"], {"task": "seq2seq", "teacher": "live"}),
        ("distill", ["module=minillm"], {"task": "causal_lm", "teacher": "live", "loss": "reverse_kl"}),
        ("distill", ["task=causal_lm", "loss=kd"], {"loss": "kd", "model@teacher.model": "smollm2"}),
        ("distill", ["datamodule=chat", "task=sequence_classification"], {"task": "sequence_classification"}),
        ("distill", ["experiment=movie_reviews_lm"], {"model@teacher.model": "gpt_tiny", "task": "causal_lm"}),
        ("distill", ["experiment=movie_reviews"], {"task": "sequence_classification", "loss": "kd"}),
        ("evaluate", ["run=x", "datamodule=chat"], {"datamodule": "chat"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_option_chooses_what_fits_unless_the_user_does(verb, words, expected):
    chosen = menu(ROOT, verb, words).chosen
    assert {key: chosen[key] for key in expected} == expected


def test_the_metrics_follow_the_task():
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        for words, names in (
            ([], "classification"),
            (["task=causal_lm"], "causal_lm"),
            (["datamodule=pairs"], "causal_lm"),
        ):
            assert names in compose("distill", words).metric
        assert list(compose("distill", ["task=causal_lm", "metric=cost"]).metric) == ["cost"]


def test_options_of_users_can_choose_others_and_experiments_must_name_groups_that_are_there(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "experiment").mkdir()
    (tmp_path / "task" / "own.yaml").write_text(
        "defaults: [task_is, _self_, override /model@_global_.teacher.model: gpt_tiny,"
        " override /model@_global_.model: mlp]\n"
    )
    (tmp_path / "task" / "task_is.yaml").write_text("_target_: kdlab.task.causal_lm.CausalLM\n")
    wrong = "# @package _global_\ndefaults: [override /model@nowhere: mlp]\n"
    (tmp_path / "experiment" / "wrong.yaml").write_text(wrong)
    assert menu(ROOT, "distill", ["task=own"], tmp_path).chosen["model@teacher.model"] == "gpt_tiny"
    assert menu(ROOT, "finetune", ["task=own"], tmp_path).chosen["model"] == "mlp"
    with composing(ROOT, tmp_path), pytest.raises(ConfigCompositionException, match="Could not override"):
        compose("distill", ["experiment=wrong"])


@pytest.mark.parametrize(("loss", "kept"), [("kd", None), ("ce", None), ("kd_top_k", 64), ("jsd_top_k", 64)])
def test_the_teacher_keeps_what_the_loss_compares(loss, kept):
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        for teacher in ("cached", "live"):
            assert compose("distill", [f"loss={loss}", f"teacher={teacher}"]).teacher.top_k == kept
        if kept:
            assert compose("distill", [f"loss={loss}", "loss.top_k=8"]).teacher.top_k == 8
            assert compose("distill", [f"loss={loss}", "teacher.top_k=16"]).teacher.top_k == 16
