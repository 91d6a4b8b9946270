"""Teachers that are several, or that were students themselves: one command, each trained and asked once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from kdlab.config.stored import read_config

EPOCH = "trainer.max_epochs=1"


def runs(command: str, outputs: str = "outputs") -> list[Path]:
    return sorted(path.parent for path in Path(outputs, command).glob("*/done.json"))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model/model.safetensors")


def taught(run: Path) -> dict[str, str]:
    return json.loads((run / "teacher.json").read_text())["places"]


def quoted(words: list[str]) -> str:
    """A list in Hydra's grammar, of words that may hold such lists themselves."""
    escaped = (word.replace("\\", "\\\\").replace("'", "\\'") for word in words)
    return "[" + ",".join(f"'{word}'" for word in escaped) + "]"


@pytest.fixture
def words(tiny) -> list[str]:
    """A distillation without its teacher's recipe."""
    words = [word for word in tiny["distill"] if not word.startswith("teacher.recipe")]
    return [*words, EPOCH, "logger=none"]


@pytest.fixture
def mixed(tiny, words) -> list[str]:
    """An ensemble of a transformer with the student's words and a perceptron with words of its own."""
    small = ["model=mlp", "model.width=8", "model.embedding_size=8", "model.tokenizer=train:wordpiece:150"]
    shared = [word for word in tiny["finetune"] if not word.startswith("model")]
    words = [word for word in words if "teacher.model" not in word]
    return [
        *words, "teacher=ensemble", "+teacher@teacher.members.wide=cached", "+teacher@teacher.members.bag=cached",
        f"teacher.members.wide.recipe={quoted([*tiny['finetune'], EPOCH])}",
        f"teacher.members.bag.recipe={quoted([*shared, *small, EPOCH])}",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.sampled(1)
def test_an_ensemble_of_architectures_and_tokenizers_is_trained_and_asked_once_for_a_sweep(kdlab, mixed):
    code, out, err = kdlab("distill", "-m", *mixed, "teacher/combine=mean,entropy,confidence,routed")
    assert code == 0, out + err
    assert len(runs("finetune")) == 2 and len(list(Path("outputs/store").glob("*/meta.json"))) == 2
    students = runs("distill")
    assert len(students) == 4
    kept = [weights(run) for run in students]
    assert all(any(not torch.equal(kept[0][n], other[n]) for n in other) for other in kept[1:]), (
        "each combines otherwise"
    )
    assert set(taught(students[0])) == {"teacher.members.wide", "teacher.members.bag"}
    metrics = json.loads((students[0] / "metrics.json").read_text())
    assert {"test/fidelity/agreement", "teacher/test/accuracy", "teacher/members/bag/model/parameters"} <= set(metrics)
    code, out, err = kdlab("evaluate", f"run={students[0].name}", "repeats=1")
    assert code == 0, out + err


@pytest.mark.slow
def test_terms_that_need_several_teachers_read_the_members(kdlab, mixed):
    code, out, err = kdlab("distill", "-m", *mixed, "loss=ca_mkd,ae_kd")
    assert code == 0, out + err
    assert len(runs("distill")) == 2


@pytest.mark.slow
def test_a_live_member_says_what_a_cached_one_says(kdlab, mixed):
    assert kdlab("distill", *mixed, "loss.alpha=1.0")[0] == 0
    live = [word.replace("=cached", "=live") for word in mixed]
    code, out, err = kdlab("distill", *live, "loss.alpha=1.0", "outputs=live")
    assert code == 0, out + err
    one, two = weights(runs("distill")[0]), weights(runs("distill", "live")[0])
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


@pytest.mark.slow
def test_a_single_teacher_may_have_words_of_its_own(kdlab, tiny, words):
    recipe = [word for word in tiny["finetune"] if "tokenizer" not in word] + [EPOCH]
    words = [*words, f"teacher.recipe={quoted(recipe)}", "teacher.model.tokenizer=train:wordpiece:150"]
    code, out, err = kdlab("distill", *words)
    assert code == 0, out + err
    (teacher,), (student,) = runs("finetune"), runs("distill")
    assert weights(teacher)["bert.embeddings.word_embeddings.weight"].shape[0] == 150
    assert weights(student)["bert.embeddings.word_embeddings.weight"].shape[0] == 200


@pytest.mark.slow
def test_born_again_generations_teach_each_other_and_a_sweep_shares_them(kdlab, tiny, words):
    words = [*words, f"teacher.recipe={quoted([*tiny['finetune'], EPOCH])}"]
    code, out, err = kdlab("distill", "-m", *words, "teacher.generations=0,2")
    assert code == 0, out + err
    chain = {read_config(run).teacher.generations: run for run in runs("distill")}
    assert sorted(chain) == [0, 1, 2] and len(runs("finetune")) == 1
    assert Path(taught(chain[0])["teacher"]).name == runs("finetune")[0].name
    assert [Path(taught(chain[number])["teacher"]).name for number in (1, 2)] == [chain[0].name, chain[1].name]
    before = (chain[1] / "done.json").stat().st_mtime_ns
    code, out, _ = kdlab("distill", *words, "teacher.generations=1")
    assert code == 0 and "already finished" in out, "a generation is the run that its own command gives"
    assert (chain[1] / "done.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_an_assistant_is_a_distillation_by_recipe_and_a_chain_may_be_of_any_length(kdlab, tiny, words):
    first = f"teacher.recipe={quoted([*tiny['finetune'], EPOCH])}"
    assistant = ["distill", *words, "student.hidden_size=12", first]
    second = ["distill", *words, "student.hidden_size=8", f"teacher.recipe={quoted(assistant)}"]
    command = [*words, "student.hidden_size=4", f"teacher.recipe={quoted(second)}"]
    code, out, err = kdlab("distill", "-m", *command, "loss.temperature=1,2")
    assert code == 0, out + err
    widths = {read_config(run).student.hidden_size: run for run in runs("distill")}
    assert sorted(widths) == [4, 8, 12] and len(runs("distill")) == 4 and len(runs("finetune")) == 1
    assert Path(taught(widths[4])["teacher"]).name == widths[8].name
    assert Path(taught(widths[8])["teacher"]).name == widths[12].name
    assert OmegaConf.load(widths[8] / "config.yaml").command == "distill"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            [],
            "teacher=ensemble has 0 members, and needs two or more: add each with +teacher@teacher.members.NAME=cached",
        ),
        (["loss=hint"], "loss.terms.hint of the teacher: teacher=ensemble does not offer 'hidden.-1'"),
    ],
)
def test_what_an_ensemble_cannot_be_is_one_sentence(kdlab, words, more, said):
    words = [word for word in words if "teacher" not in word]
    code, _, err = kdlab("distill", *words, "teacher=ensemble", *more)
    assert code == 2 and said in err and err.count("error: ") == 1 and "Traceback" not in err, err


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["entropy", "disagreement"])
def test_a_trained_model_selects_what_is_labelled_and_is_asked_once(kdlab, tiny, choice):
    seeds = ["seed=0,1"] if choice == "disagreement" else ["seed=0"]
    assert kdlab("finetune", "-m", *tiny["finetune"], *seeds, EPOCH, "logger=none")[0] == 0
    teachers = runs("finetune")
    words = [*tiny["finetune"], f"datamodule/select={choice}", f"datamodule.select.run={teachers[0].name}"]
    words += [f"datamodule.select.other={teachers[-1].name}"] if choice == "disagreement" else []
    code, out, err = kdlab("finetune", "-m", *words, EPOCH, "datamodule.budget=16,32", "logger=none")
    assert code == 0, out + err
    assert len(runs("finetune")) == len(teachers) + 2
    assert len(list(Path("outputs/store").glob("*/meta.json"))) == len(teachers)
    code, out, err = kdlab("finetune", *words, EPOCH, "logger=none")
    assert code == 2 and "datamodule.select needs a number of labels" in err
    run = next(run for run in runs("finetune") if read_config(run).datamodule.get("budget") == 16)
    code, out, err = kdlab("evaluate", f"run={run.name}", "repeats=1")
    assert code == 0, out + err
