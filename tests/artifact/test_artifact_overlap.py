"""Whose rows a teacher has seen, and whether what a finished run read is still what it was."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from kdlab.artifact import overlap
from kdlab.artifact.overlap import FILE, digests, training
from kdlab.artifact.trained import named
from kdlab.config import build, conf
from kdlab.config.job import composed
from kdlab.config.stored import read_config
from kdlab.error import UserError
from kdlab.fit.job import one_class

EPOCH = "trainer.max_epochs=1"
TOKENS = ["model=bert_tiny", "model.tokenizer=train:wordpiece:200"]


@pytest.fixture
def compose():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield composed


@pytest.fixture
def finished(base, tmp_path, tiny):
    """The words of a finished student whose outputs are copied here, and its folder."""
    shutil.copytree(base / "outputs", tmp_path / "outputs")
    return [*tiny["distill"], "logger=none"], next((tmp_path / "outputs/distill").glob("*/done.json")).parent


def test_a_run_leaves_the_hashes_of_the_texts_that_it_learned_from(base, finished):
    _, folder = finished
    data = build.data(read_config(folder))
    known = np.load(folder / FILE)
    assert known.dtype == np.uint64 and np.array_equal(known, training(data))
    assert np.isin(digests(data.texts[row] for row in data.splits["train"]), known).all()
    assert not np.isin(digests(data.texts[row] for row in data.splits["test"]), known).any()


def test_an_older_run_without_hashes_is_asked_by_its_config(finished):
    _, folder = finished
    known = np.load(folder / FILE)
    (folder / FILE).unlink()
    assert np.array_equal(overlap.of_run(named(str(folder), Path("outputs"))), known)


@pytest.mark.sampled(0, tried="all")
@pytest.mark.parametrize("change", ["datamodule.split_seed=1", "datamodule.test_fraction=0.3"])
@pytest.mark.parametrize("how", ["run", "recipe"])
def test_a_teacher_that_learned_from_the_student_s_test_rows_is_refused(kdlab, finished, change, how):
    words, folder = finished
    words = [word for word in words if not (how == "run" and word.startswith("teacher.recipe"))]
    run = next(Path("outputs/finetune").glob("*/done.json")).parent
    words += [change] + ([f"teacher.run={run.name}"] if how == "run" else [])
    if how == "recipe":
        shutil.rmtree(run)
    code, _, err = kdlab("distill", *words)
    assert [path.name for path in Path("outputs/distill").iterdir() if path.is_dir()] == [folder.name]
    asked = read_config(folder)
    OmegaConf.update(asked, *change.split("="), merge=False)
    asked.datamodule.split_seed = int(asked.datamodule.split_seed)
    asked.datamodule.test_fraction = float(asked.datamodule.test_fraction)
    data = build.data(asked)
    measured = digests(data.texts[row] for name in ("val", "test") for row in data.splits[name])
    count = int(np.isin(measured, np.load(folder / FILE)).sum())
    assert count and code == 2 and f"trained on {count} of the {len(measured)} rows" in err, err
    assert "allow_overlap=true" in err and err.count("error: ") == 1
    assert how == "run" or not list(Path("outputs/finetune").glob("*/config.yaml")), "said before it is trained"
    code, _, err = kdlab("distill", *words, "allow_overlap=true", EPOCH)
    assert code == 0, err


@pytest.mark.slow
def test_a_sweep_asks_once_and_before_any_point_begins(kdlab, finished, monkeypatch):
    words, folder = finished
    run = next(Path("outputs/finetune").glob("*/done.json")).parent
    words = [word for word in words if not word.startswith("teacher.recipe")] + [f"teacher.run={run.name}"]
    monkeypatch.setenv("KDLAB_JOBS", "2")
    monkeypatch.setattr(overlap, "_digests", {})
    monkeypatch.setattr(overlap, "digests", once := Once(overlap.digests))
    code, out, err = kdlab("distill", "-m", *words, "datamodule.split_seed=1", "loss.temperature=1,2,4")
    assert code == 2 and "rows that this run is validated and tested on" in err and not out, err
    assert once.calls == 1
    assert [path.name for path in Path("outputs/distill").glob("*-*")] == [folder.name]


class Once:
    def __init__(self, made):
        self.made, self.calls = made, 0

    def __call__(self, texts):
        self.calls += 1
        return self.made(texts)


@pytest.mark.slow
def test_the_teacher_of_a_teacher_is_looked_at_too(kdlab, finished):
    words, folder = finished
    shutil.copy(folder / FILE, folder / "kept.npy")
    np.save(folder / FILE, np.zeros(0, np.uint64))  # as if the assistant itself had seen nothing
    own = [word for word in words if not word.startswith(("teacher.", "model@teacher"))]
    code, _, err = kdlab("distill", *own, f"teacher.run={folder.name}", "datamodule.split_seed=1")
    taught = next(Path("outputs/finetune").glob("*/done.json")).parent.name
    assert code == 2 and f"teacher {taught} was trained on" in err, err


HASHES = st.lists(st.integers(0, 3) | st.integers(2**64 - 4, 2**64 - 1))


@given(HASHES, HASHES)
def test_known_hashes_are_found_to_the_last_bit(values, known):
    values, known = np.array(values, np.uint64), np.array(known, np.uint64)
    assert overlap._among(values, known).tolist() == np.isin(values, known).tolist()


def test_copies_of_a_data_module_share_their_hashes(compose, reviews, monkeypatch):
    data = build.data(compose("finetune", ["datamodule=table", f"datamodule.path={reviews}", *TOKENS]).cfg)
    first = overlap.known_digests(data)
    assert np.array_equal(first, digests(data.keys))
    monkeypatch.setattr(overlap, "digests", None)
    assert overlap.known_digests(copy.copy(data)) is first


def test_texts_that_the_data_repeat_themselves_do_not_count(compose, tmp_path):
    rows = ["text,label,split", *[f"a{n},x,train" for n in range(5)], *[f"b{n},y,train" for n in range(5)]]
    rows += ["a0,x,val", "b9,y,val", "a1,x,test", "b8,y,test"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    words = [
        "datamodule=table",
        f"datamodule.path={tmp_path}/t.csv",
        "datamodule.split_column=split",
        "datamodule.overlap=allow",
    ]
    data = build.data(compose("finetune", [*words, "model.tokenizer=train:wordpiece:150"]).cfg)
    overlap.check("it", training(data), data)
    with pytest.raises(UserError, match="it was trained on 1 of the 4 rows"):
        overlap.check("it", digests(["a0", "b8"]), data)


@pytest.mark.slow
def test_is_finished_is_not_said_when_the_file_of_the_recipe_changed(kdlab, finished, reviews, tmp_path):
    words, _ = finished
    mine = tmp_path / "mine.csv"
    mine.write_text(reviews.read_text())
    words = [word.replace(str(reviews), str(mine)) if word.startswith("teacher.recipe") else word for word in words]
    code, out, err = kdlab("distill", *words)
    assert code == 0, out + err
    lines = reviews.read_text().splitlines()
    mine.write_text("\n".join([*lines, "one more good row,positive"]))
    code, out, err = kdlab("distill", *words)
    assert code == 2 and "is finished with the teacher" in err and "teacher.recipe now describes" in err, out + err
    assert "rerun=true" in err and err.count("error: ") == 1
    code, out, err = kdlab("distill", *words, "rerun=true", "allow_overlap=true")
    assert code == 0, out + err
    assert kdlab("distill", *words)[0] == 0


@pytest.mark.slow
def test_is_finished_is_not_said_when_the_teacher_s_weights_were_replaced(kdlab, finished):
    words, _ = finished
    code, out, _ = kdlab("distill", *words)
    assert code == 0 and "finished" in out
    path = next(Path("outputs/finetune").glob("*/model/model.safetensors"))
    save_file({name: value * 1.5 for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    code, out, err = kdlab("distill", *words)
    assert code == 2 and "the weights of its teacher" in err and "rerun=true" in err, out + err


def test_the_content_of_a_teacher_s_folder_is_part_of_the_id(compose, finished, tmp_path):
    folder = tmp_path / "foreign"
    shutil.copytree(next(Path(tmp_path / "outputs/finetune").glob("*/model")), folder)
    words = ["datamodule=table", "datamodule.path=x.csv", f"teacher.run={folder}"]
    before = compose("distill", words).folder
    assert compose("distill", words).folder == before
    weights = load_file(folder / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, folder / "model.safetensors")
    assert compose("distill", words).folder != before


def test_the_content_of_a_tokenizer_and_of_a_saved_data_set_is_part_of_the_id(compose, finished, tmp_path):
    folder = tmp_path / "words"
    shutil.copytree(next(Path(tmp_path / "outputs/finetune").glob("*/model")), folder)
    words = ["datamodule=table", "datamodule.path=x.csv", "model=bert_tiny", f"model.tokenizer={folder}"]
    before = compose("finetune", words).folder
    (folder / "model.safetensors").write_bytes(b"no part of the tokenizer")
    assert compose("finetune", words).folder == before
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace("good", "evil"))
    assert compose("finetune", words).folder != before
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "data.arrow").write_bytes(b"one")
    before = compose("finetune", ["datamodule=hub", f"datamodule.name={saved}"]).folder
    (saved / "data.arrow").write_bytes(b"another")
    assert compose("finetune", ["datamodule=hub", f"datamodule.name={saved}"]).folder != before


def test_a_model_that_predicts_one_class_is_named():
    labels = ["no", "yes"]
    assert "predicts 'yes' for 100.0% of the test rows, of which 60.0%" in one_class(
        torch.tensor([[0, 40], [0, 60]]), labels
    )
    assert one_class(torch.tensor([[1, 39], [0, 60]]), labels) == "", "99% is not more than 99%"
    assert one_class(torch.tensor([[0, 0], [0, 60]]), labels) == "", "they all are of that class"
    assert (
        one_class(torch.zeros(2, 2), labels) == one_class(torch.ones(2, 2, 2), labels) == one_class(None, labels) == ""
    )


def test_a_run_whose_model_predicts_one_class_ends_with_a_warning(kdlab, tiny):
    words = [*tiny["finetune"], "optimizer.lr=1e-2", "logger=none"]
    code, _, err = kdlab("finetune", *words, "task.class_weights=[1000,0.001]")
    assert code == 0 and "the model predicts 'negative' for 100.0% of the test rows, of which 50.0%" in err, err
