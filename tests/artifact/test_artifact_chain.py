"""A teacher of one's own data: what a recipe takes over, what wins, and what is refused before anything is trained."""

import json
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from kdlab.artifact import assemble, chain
from kdlab.artifact.find import wanted
from kdlab.artifact.trained import named
from kdlab.config import conf
from kdlab.config.job import composed
from kdlab.error import UserError

SIZE = ["hidden_size=16", "layers=2", "heads=2", "intermediate_size=32", "tokenizer=train:wordpiece:200"]
TEACHER = ["model@teacher.model=bert_tiny", *[f"teacher.model.{word}" for word in SIZE]]


@pytest.fixture
def job():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield lambda *words: composed("distill", list(words))


def teacher(job):
    return wanted(job, "teacher", job.cfg.teacher)


def table(folder, name, labels, rows=40):
    path = folder / name
    path.write_text(
        "text,label\n" + "\n".join(f"word{n % 7} row{n} of {name},{labels[n % len(labels)]}" for n in range(rows))
    )
    return path


def test_a_recipe_without_data_takes_over_what_is_learned_and_not_how(job):
    words = ["path=mine.csv", "text_column=body", "label_column=kind", "split_column=part", "label_names=[b,a]"]
    words += ["split_seed=3", "val_fraction=0.2", "train_rows=90", "test_rows=9", "max_length=20", "multi_label=true"]
    own = ["batch_size=7", "eval_batch_size=9", "tokenizer=train:wordpiece:150"]
    words = ["datamodule=table", "task.multi_label=true", "seed=4", *[f"datamodule.{word}" for word in [*words, *own]]]
    base, found = job(*words, "task.label_smoothing=0.3", "datamodule/augment=word_dropout"), None
    found = teacher(base).cfg
    same = {"path", "text_column", "label_column", "split_column", "label_names", "split_seed", "val_fraction"}
    for key in same | {"train_rows", "test_rows", "max_length", "multi_label"}:
        assert found.datamodule[key] == base.cfg.datamodule[key], key
    assert found.task.multi_label and found.task.label_smoothing == 0
    assert (found.datamodule.batch_size, found.datamodule.eval_batch_size, found.datamodule.augment) == (32, 128, None)
    assert found.datamodule.tokenizer.startswith("package:") and found.seed == 0
    assert teacher(base).choices["datamodule"] == "table" and chain.key(base.cfg) == chain.key(found)


def test_a_teacher_of_few_labels_has_the_same_ones_and_learns_from_no_other_row(job):
    data = teacher(job("datamodule.per_class=5", "seed=3")).cfg.datamodule
    assert (data.per_class, data.seed, data.unlabelled) == (5, 3, "drop")
    data = teacher(job("seed=3")).cfg.datamodule
    assert (data.per_class, data.seed, data.unlabelled) == (None, 0, "keep")


@pytest.mark.parametrize("word", ["datamodule=table", "experiment=movie_reviews_teacher"])
def test_a_recipe_with_data_of_its_own_takes_over_nothing(job, word):
    base = job("datamodule.max_length=20", "datamodule.split_seed=5", f"teacher.recipe=['{word}']")
    assert teacher(base).cfg.datamodule.split_seed == 0 and teacher(base).cfg.datamodule.max_length != 20


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("cpu", 1)),
        (["trainer=gpu"], ("gpu", 1)),
        (["trainer.accelerator=cuda"], ("gpu", 1)),
        (["trainer=ddp"], ("auto", 1)),
        (["trainer=fsdp", "trainer.accelerator=gpu", "trainer.devices=8"], ("gpu", 1)),
        (["trainer=gpu", "experiment=movie_reviews"], ("gpu", 1)),
        (["trainer=gpu", "teacher.recipe=['trainer=cpu']"], ("cpu", 1)),
        (["trainer=gpu", "teacher.recipe=['trainer.accelerator=cpu']"], ("cpu", 1)),
        (["trainer=gpu", "teacher.recipe=[distill,'experiment=movie_reviews']"], ("gpu", 1)),
    ],
)
def test_a_teacher_is_trained_where_the_student_is(job, words, expected):
    """On one such device: a student on several waits for it."""
    found = teacher(job(*words)).cfg.trainer
    assert (found.accelerator, found.devices) == expected
    if found.accelerator == "gpu":
        assert found.precision == "bf16-mixed"


@pytest.mark.slow
def test_what_a_recipe_names_wins(job):
    base = job("datamodule.max_length=20", "teacher.recipe=['datamodule.max_length=30','seed=2','model.layers=[1]']")
    found = teacher(base).cfg
    assert (found.datamodule.max_length, found.seed, found.model.layers) == (30, 2, [1])
    found = teacher(job("teacher.recipe=['model=bert_tiny']"))
    assert found.choices["model"] == "bert_tiny" and found.cfg.model._target_ == "kdlab.model.bert.bert"
    assert found.cfg.optimizer.lr == 5e-4
    found = teacher(job("model@teacher.model=bert_tiny", "teacher.model.layers=5", "teacher.recipe=['model.heads=4']"))
    assert (found.cfg.model.layers, found.cfg.model.heads) == (5, 4)
    found = teacher(
        job("model@teacher.model=bert_tiny", "teacher.model.layers=5", "teacher.recipe=['model=bert_tiny']")
    )
    assert found.cfg.model.layers == 5


def test_an_assistant_without_data_of_its_own_and_its_teacher_take_over_the_student_s(job):
    base = job("datamodule.split_seed=5", "teacher.recipe=[distill,'model@student=mlp']")
    assistant = teacher(base)
    assert assistant.command == "distill" and assistant.cfg.datamodule.split_seed == 5
    assert teacher(assistant).command == "finetune" and teacher(assistant).cfg.datamodule.split_seed == 5


def test_members_of_an_ensemble_and_stages_take_over_the_data_too(job):
    words = ["teacher=ensemble", "+teacher@teacher.members.a=cached", "+model@teacher.members.a.model=bert_tiny"]
    base = job(*words, "datamodule.split_seed=5")
    found = wanted(base, "teacher.members.a", base.cfg.teacher.members.a)
    assert found.cfg.datamodule.split_seed == 5 and found.choices["model"] == "bert_tiny"


@pytest.mark.slow
def test_learning_rates_are_those_of_the_models_and_a_user_s_own_wins(job):
    rates = {name: job(f"model@student={name}").cfg.optimizer.lr for name in ("bert_tiny", "linear", "mlp", "simkd")}
    assert rates == {"bert_tiny": 5e-4, "linear": 1e-2, "mlp": 1e-3, "simkd": 5e-4}
    assert 1e-4 <= job().cfg.optimizer.lr <= 3e-4 and teacher(job()).cfg.optimizer.lr == 5e-5
    assert job("optimizer.lr=0.5").cfg.optimizer.lr == 0.5
    assert job("~student.lr").cfg.optimizer.lr == 5e-5, "a model of the user's own may recommend nothing"
    assert job("optimizer.lr=5e-4").folder == job("optimizer.lr=5e-4", "student.lr=1").folder, "no part of an id"


@pytest.mark.slow
def test_a_student_of_the_teacher_s_layers_reads_the_teacher_s_tokens(job, base):
    run = next((base / "outputs/finetune").glob("*/model"))
    assert job(f"teacher.run={run.parent}").cfg.datamodule.tokenizer == str(run)
    assert job(f"teacher.run={run.parent.name}", f"outputs={base}/outputs").cfg.datamodule.tokenizer == str(run)
    assert job("teacher.recipe=['model=hf','model.path=/x/y']").cfg.datamodule.tokenizer == "/x/y"
    assert job("teacher.model.tokenizer=train:wordpiece:300").cfg.datamodule.tokenizer == "train:wordpiece:300"
    assert job("student.tokenizer=train:wordpiece:400").cfg.datamodule.tokenizer == "train:wordpiece:400"
    chain = "teacher.recipe=[distill,'model@student=mlp','student.tokenizer=train:wordpiece:150']"
    assert job(chain).cfg.datamodule.tokenizer == "train:wordpiece:150"


@pytest.mark.slow
def test_other_labels_of_a_recipe_are_refused_before_anything_is_trained(kdlab, tiny, tmp_path):
    other = table(tmp_path, "other.csv", ["x", "y"])
    words = [word for word in tiny["distill"] if not word.startswith("teacher.recipe")]
    recipe = ",".join(f"'{word}'" for word in ["datamodule=table", f"datamodule.path={other}", "trainer.max_epochs=1"])
    for more in ([], ["-m"]):
        code, out, err = kdlab("distill", *more, *words, f"teacher.recipe=[{recipe}]", "logger=none")
        assert code == 2 and "the labels ['x', 'y']" in err and "['negative', 'positive']" in err, out + err
        assert not list(Path("outputs/finetune").glob("*/config.yaml"))
    code, _, err = kdlab("doctor", "distill", *words, f"teacher.recipe=[{recipe}]", "logger=none")
    assert code == 2 and "the labels ['x', 'y']" in err


@pytest.mark.parametrize("place", ["tokenizer", "path"])
def test_files_of_a_whole_chain_are_looked_for_before_anything_is_trained(kdlab, tiny, place):
    words = [word for word in tiny["distill"] if not word.startswith("teacher.recipe")]
    lacking = {
        "tokenizer": ["model=bert_tiny", "model.tokenizer=/no/such"],
        "path": ["model=hf", "model.path=/no/such"],
    }
    inner = ",".join(f"'{word}'" for word in lacking[place])
    assistant = [*[word for word in words if word.startswith("student")], f"teacher.recipe=[{inner}]"]
    outer = ",".join(f'"{word}"' for word in ["model@student=bert_tiny", *assistant])
    code, out, err = kdlab("distill", *words, f"teacher.recipe=[distill,{outer}]", "logger=none")
    assert code == 2 and "/no/such" in err and err.count("error: ") == 1, out + err
    assert not list(Path("outputs").glob("*/*/done.json"))


@pytest.mark.slow
def test_a_plain_command_on_a_file_of_one_s_own_trains_its_teacher_on_it(kdlab, reviews):
    words = ["datamodule=table", f"datamodule.path={reviews}", *TEACHER, "trainer.max_epochs=1", "logger=none"]
    code, out, err = kdlab("distill", *words, "trainer.precision=32-true", "teacher.recipe=['trainer.max_epochs=1']")
    assert code == 0, out + err
    (taught,) = Path("outputs/finetune").glob("*/config.yaml")
    assert OmegaConf.load(taught).datamodule.path == str(reviews)
    (run,) = Path("outputs/distill").glob("*/model/config.json")
    assert json.loads(run.read_text())["num_hidden_layers"] == 1, "half of the teacher's layers"


@pytest.fixture
def foreign(tmp_path, base):
    """A model directory from elsewhere, by what its labels are called."""
    source = next((base / "outputs/finetune").glob("*/model"))

    def make(names):
        model = AutoModelForSequenceClassification.from_pretrained(source)
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: number for number, name in enumerate(names)}
        folder = tmp_path / "foreign"
        model.save_pretrained(folder)
        for file in source.glob("tokenizer*"):
            (folder / file.name).write_bytes(file.read_bytes())
        return folder

    return make


@pytest.mark.slow
def test_labels_in_another_order_are_matched_by_name(foreign):
    folder = foreign(["b", "a"])
    plain, turned = named(str(folder), Path("outputs")), named(str(folder), Path("outputs"))
    assemble.match_labels(turned, ["a", "b"])
    ids = torch.tensor([[1, 5, 9, 3]])
    before, after = plain.model(ids).logits, turned.model(ids).logits
    assert torch.equal(after, before[:, [1, 0]]) and not torch.equal(after, before)
    assert turned.labels == ["a", "b"] and turned.fingerprint != plain.fingerprint
    assemble.match_labels(turned, ["b", "a"])
    assert torch.equal(turned.model(ids).logits, before) and turned.labels == ["b", "a"]


def test_a_teacher_with_numbers_for_labels_is_refused_unless_the_data_has_them_too(foreign):
    found = named(str(foreign(["LABEL_0", "LABEL_1"])), Path("outputs"))
    with pytest.raises(UserError, match=r"names its labels LABEL_0, LABEL_1 …, so which of .* is which is not known"):
        assemble.match_labels(found, ["no", "yes"])
    assemble.match_labels(found, ["LABEL_0", "LABEL_1"])


def test_a_teacher_without_a_trained_classifier_is_refused(tmp_path):
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=20, **shape)).save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match=r"no trained classifier \(classifier.weight is not in its weights\).*model=hf"):
        assemble.match_labels(named(str(tmp_path / "bare"), Path("outputs")), ["no", "yes"])
    with pytest.raises(UserError, match="has the labels"):
        assemble.match_labels(named(str(_saved(tmp_path, shape)), Path("outputs")), ["no", "yes"])


def _saved(folder, shape):
    config = BertConfig(vocab_size=20, num_labels=3, id2label={0: "x", 1: "y", 2: "z"}, **shape)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "three")
    return folder / "three"
