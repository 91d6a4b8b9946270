"""`kdlab doctor`: what would go wrong is told before anything is trained, and knobs that do nothing are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerFast

from kdlab.datamodule.tokenizer import SPECIAL, wordpiece
from kdlab.plan import precheck


def doctor(kdlab, tiny, *words: str, verb: str = "distill", flags: tuple[str, ...] = ("-m",)) -> tuple[int, str, str]:
    code, out, err = kdlab("doctor", verb, *flags, *tiny[verb], "logger=none", *words)
    return code, " ".join(out.split()), " ".join(err.split())


def test_a_good_sweep_is_described_and_leaves_nothing_behind(kdlab, tiny):
    code, out, err = doctor(kdlab, tiny, "loss=kd,hint", "freeze=none,gradual", "optimizer.lr=1e-3,1e-2")
    assert code == 0, out + err
    assert "8 jobs: 8 new, 0 to resume, 0 finished" in out
    assert "an untrained model of its config stands in for it" in out
    for key, change in {"freeze": "the trainable set", "optimizer.lr": "the optimizer", "loss": "the loss"}.items():
        assert change in out.split(f" {key} ")[-1], out
    for said in ("layer.1", "embedding, hidden.0, hidden.1", "negative, positive", "a run on this machine", "memory",
                 "teacher training", "teacher pass",
                 "for the teacher's answers, once for all runs", "freeze=gradual"):  # fmt: skip
        assert said in out
    assert not Path("outputs").exists()
    assert "No problems found." in out


def test_a_single_run_is_described_as_well(kdlab, tiny):
    code, out, err = doctor(kdlab, tiny, verb="finetune", flags=())
    assert code == 0, out + err
    assert "1 job: 1 new, 0 to resume, 0 finished" in out
    assert "model: BertForSequenceClassification" in out
    assert "steps" in out


TEACHERS = {
    "a moving average of the student": (["teacher=ema", "teacher.decay=0.5,0.9"], "teacher.decay 0.5, 0.9 the loss"),
    "a peer": (["teacher=peer", "module=mutual", "loss.temperature=1,2"], "loss.temperature 1, 2 the loss"),
    "an earlier student": (["teacher.generations=0,1"], "teacher.generations 0, 1 the teacher"),
    "another tokenizer": (["student.tokenizer=train:wordpiece:150,train:wordpiece:200"], "student.tokenizer"),
}


@pytest.mark.sampled(0, tried=3)
@pytest.mark.parametrize("name", TEACHERS)
def test_every_kind_of_teacher_is_looked_at(kdlab, tiny, name):
    words, says = TEACHERS[name]
    shared = tiny["distill"]
    if words[0].startswith("teacher="):  # a kind that no run is named for
        shared = [word for word in shared if not word.startswith(("teacher", "model@teacher"))]
    code, out, err = doctor(kdlab, {"distill": shared}, *words)
    assert code == 0, out + err
    assert says in out
    assert not Path("outputs").exists()


@pytest.mark.slow
def test_the_members_of_an_ensemble_are_shown(kdlab, tiny, reviews):
    recipe = next(word for word in tiny["distill"] if word.startswith("teacher.recipe=")).partition("=")[2]
    shared = [word for word in tiny["distill"] if not word.startswith(("teacher", "model@teacher"))]
    words = ["teacher=ensemble", "~model@teacher.model"]
    for name, seed in (("one", 1), ("two", 2)):
        words += [f"+teacher@teacher.members.{name}=cached"]
        words += [f"teacher.members.{name}.recipe={recipe[:-1]},'seed={seed}']"]
    code, out, err = doctor(kdlab, {"distill": shared}, *words, "loss.alpha=0.5,0.9")
    assert code == 0, out + err
    assert out.count("is trained first, once") == 2
    assert "teacher.members.one:" in out
    assert "teacher.members.two:" in out


@pytest.mark.slow
def test_an_adapter_is_shown(kdlab, tiny):
    code, out, err = doctor(kdlab, tiny, "loss=hint", "student.hidden_size=8", flags=())
    assert code == 0, out + err
    assert "loss.terms.hint.adapter.weight 16 x 8" in out


@pytest.mark.slow
def test_what_is_finished_is_counted(kdlab, tiny, base):
    shutil.copytree(base / "outputs", "outputs")
    code, out, err = doctor(kdlab, tiny, "seed=0,1")
    assert code == 0, out + err
    assert "2 jobs: 1 new, 0 to resume, 1 finished" in out
    assert "which is trained" in out
    assert not list(Path("outputs").glob("distill/*-s1-*"))


DEAD = {
    "a temperature without a teacher": (["loss=ce", "loss.temperature=1,2"], "loss.temperature does nothing"),
    "smoothed labels that are not looked at": (
        ["loss.alpha=1.0", "task.label_smoothing=0.0,0.1"],
        "task.label_smoothing does nothing",
    ),
    "epochs where steps decide": (
        ["trainer.max_steps=4", "trainer.max_epochs=5,6"],
        "trainer.max_epochs does nothing",
    ),
    "how the one teacher pass is batched": (
        ["teacher.tokens_per_batch=1024,2048"],
        "teacher.tokens_per_batch does nothing",
    ),
    "a name": (["group=a,b"], "group cannot change a run's result: group=a and group=b are the same run"),
    "the same value twice": (["loss.temperature=2,2.0"], "loss.temperature cannot change a run's result"),
}


@pytest.mark.sampled(0, tried=6)
@pytest.mark.parametrize("name", DEAD)
def test_a_knob_that_does_nothing_is_an_error_that_names_it(kdlab, tiny, name):
    words, says = DEAD[name]
    code, out, err = doctor(kdlab, tiny, *words)
    assert code == 2, out
    assert says in err
    assert says in out


@pytest.mark.slow
def test_a_knob_that_does_nothing_under_some_settings_is_noted(kdlab, tiny):
    code, out, err = doctor(kdlab, tiny, "loss=ce,kd", "loss.temperature=1,2")
    assert code == 0, out + err
    assert "loss.temperature does nothing under loss=ce" in out


def other_labels() -> None:
    rows = ["text,label", *(f"film {number},{'AB'[number % 2]}" for number in range(60))]
    Path("rows.csv").write_text("\n".join(rows))


MISTAKES = {
    "a point that does not compose": (
        ["loss.temperature=1", "student.layerz=1,2"],
        ["point 1 of 2 (student.layerz=1)", "student.layerz"],
    ),
    "a value of a later point": (["loss.temperature=1,2,-4"], ["point 3 of 3 (loss.temperature=-4)", "above 0"]),
    "a word for a number in a callback": (
        ["callback.finite.every_n_steps=1,often"],
        ["point 2 of 2", "callback.finite.every_n_steps is 'often'", "a whole number"],
    ),
    "an argument that a nested node does not have": (
        ["+scheduler.then.slope=1,2"],
        ["point 1 of 2", "scheduler", "slope"],
    ),
    "several mistakes": (["loss.alpha=0.5,1.5", "loss.temperature=1,-1"], ["3 of the 4 points have a mistake"]),
    "an option that is none": (["freeze=none,haed"], ["freeze/haed", "gradual"]),
    "a mistake in the recipe": (["teacher.recipe=['optimizer.lr=-1']"], ["teacher.recipe", "optimizer.lr is -1"]),
    "a tap that is not there": (
        ["loss=hint", "loss.terms.hint.taps.student=hidden.1,hidden.7"],
        ["point 2 of 2", "loss.terms.hint of the student", "'hidden.7'"],
    ),
    "a student that cannot be": (["student.heads=2,3"], ["point 2 of 2 (student.heads=3)", "heads=3"]),
    "more layers frozen than there are": (["freeze=bottom", "freeze.layers=1,9"], ["freeze.layers=9", "2 layers"]),
    "a teacher of other words": (["loss=hint", "student.tokenizer=train:wordpiece:150"], ["different tokenizers"]),
    "a teacher of other labels": (
        ["datamodule.path=rows.csv"],
        ["trains on data with the labels", "['A', 'B']"],
    ),
    "no such data": (["datamodule.path=nowhere.csv"], ["there is no file nowhere.csv"]),
    "a teacher that is not there": (["teacher.run=nobody"], ["'nobody'", "`kdlab runs` lists"]),
}


@pytest.mark.sampled(1, tried=12)
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_point_and_nothing_is_trained(kdlab, tiny, name):
    words, says = MISTAKES[name]
    other_labels()
    code, out, err = doctor(kdlab, tiny, *words)
    assert code == 2, out
    assert "error: " in err
    assert all(part in err for part in says), err
    assert not list(Path().rglob("*.ckpt"))
    assert not Path("outputs").exists()


@pytest.mark.slow
def test_texts_that_the_tokenizer_cannot_read_are_a_problem(kdlab, tiny):
    wordpiece([f"an english film {number}" for number in range(50)], 100).save("words.json")
    PreTrainedTokenizerFast(tokenizer_file="words.json", **SPECIAL).save_pretrained("english/model")
    Path("films.csv").write_text("text,label\n" + "".join(f"很好的电影{i},{i % 2}\n" for i in range(60)), "utf-8")
    words = ["datamodule.path=films.csv", "model.tokenizer=english/model"]
    code, out, err = doctor(kdlab, tiny, *words, verb="finetune", flags=())
    assert code == 2, out
    assert "of the tokens are unknown to the tokenizer of english, which" in err
    assert "model@teacher.model=bert_tiny teacher.model.tokenizer=train:wordpiece:8000" in err
    assert "No problems found." not in out
    code, out, err = doctor(kdlab, tiny, words[0], verb="finetune", flags=())
    assert code == 0, out + err


def test_labels_that_are_no_classes_are_a_problem(kdlab, tiny):
    Path("scores.csv").write_text("text,label\n" + "".join(f"film {i},{i / 25}\n" for i in range(90)))
    code, out, err = doctor(kdlab, tiny, "datamodule.path=scores.csv", verb="finetune", flags=())
    assert code == 2, out
    assert "scores.csv: the labels are 90 different numbers with a fraction, such as 0.04" in err


LINES = {
    "nothing": ([], ["it was given none", "kdlab doctor distill -m"]),
    "a verb that does not train": (["runs"], ["'runs' is no command that trains", "distill or finetune"]),
    "no verb": (["loss.alpha=0.5", "seed=1"], ["kdlab doctor distill loss.alpha=0.5 seed=1"]),
    "an unknown flag": (["distill", "--dry"], ["--dry", "kdlab doctor distill -m"]),
    "a sweep without -m": (["distill", "loss.temperature=1,2"], ["loss.temperature=1,2", "add -m"]),
    "a folder of options that is not there": (["distill", "--config-dir", "nowhere"], ["nowhere", "no such folder"]),
    "a mistake in the grammar": (["distill", "loss.alpha=[1"], ["loss.alpha=[1"]),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_cannot_be_looked_at(kdlab, name):
    words, says = LINES[name]
    code, _, err = kdlab("doctor", *words)
    assert code == 2
    assert all(part in " ".join(err.split()) for part in says), err


@pytest.mark.slow
def test_options_of_the_users_own_are_found(kdlab, tiny):
    Path("own/loss").mkdir(parents=True)
    Path("own/loss/gentle.yaml").write_text("# kd, warm\ndefaults: [kd, _self_]\ntemperature: 3.0\n")
    code, out, err = doctor(kdlab, tiny, "loss=kd,gentle", flags=("-m", "--config-dir", "own"))
    assert code == 0, out + err
    assert "loss kd, gentle" in out


@pytest.mark.slow
def test_of_a_search_the_ends_are_looked_at(kdlab, tiny):
    pytest.importorskip("optuna")
    words = ("sweep=optuna", "hydra.sweeper.n_trials=7", "optimizer.lr=tag(log,interval(1e-4,1e-2))")
    code, out, err = doctor(kdlab, tiny, *words, flags=())
    assert code == 0, out + err
    assert "7 jobs: the 2 different runs that were looked at: 2 new" in out
    assert "optimizer.lr 0.0001, 0.01 the loss, a gradient, the optimizer" in out
    assert "for the 7 still to run" in out
    code, _, err = doctor(kdlab, tiny, *words, "loss.temperature=interval(-1,2)", flags=())
    assert code == 2
    assert "loss.temperature=-1.0" in err


def test_a_sweep_with_a_bad_point_does_not_start(kdlab, tiny):
    code, out, err = kdlab("distill", "-m", *tiny["distill"], "logger=none", "loss.temperature=1,2,-4", "seed=0,1")
    assert code == 2, out
    assert "error: point 5 of 6 (loss.temperature=-4, seed=0)" in err
    assert "check=false" in err
    assert not Path("outputs").exists()


@pytest.mark.slow
def test_the_check_of_a_sweep_can_be_left_out(kdlab, tiny, base):
    shutil.copytree(base / "outputs", "outputs")
    code, out, err = kdlab("distill", "-m", *tiny["distill"], "logger=none", "loss.alpha=0.9,1.5", "check=false")
    assert code == 2
    assert "1 finished, 1 failed" in " ".join(out.split())
    assert "loss.alpha is 1.5" in err


@pytest.mark.slow
def test_what_points_have_in_common_is_checked_once(kdlab, tiny, monkeypatch):
    look, looked = precheck.Precheck._look, []

    def counted(self, where, node, **more):
        looked.append((where, *[OmegaConf.to_yaml(one, resolve=True) for one in (node, *more.values())]))
        look(self, where, node, **more)

    monkeypatch.setattr(precheck.Precheck, "_look", counted)
    words = ["loss.temperature=1,2,4", "loss.alpha=0.5,0.9", "freeze=none,head"]
    words += ["optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"]
    assert kdlab("distill", "-m", *tiny["distill"], "logger=none", *words)[0] == 2
    assert len(looked) == len(set(looked))
    assert [where for where, *_ in looked].count("loss") == 6
