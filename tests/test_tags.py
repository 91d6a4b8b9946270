"""A tag for each word: pieces, entities, files, losses from disk, and the commands from a file to predictions."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from shape import TINY
from small import crossed, knob, live, nodes, options, shrink, small, train

from kdlab.artifact.classifier import predictor_of
from kdlab.artifact.trained import Trained
from kdlab.config import build, conf, instantiate
from kdlab.config.job import Job
from kdlab.datamodule import tokenizer as tokens
from kdlab.datamodule.brown import Brown
from kdlab.datamodule.processor.tagged import WORD, pieces
from kdlab.datamodule.tags import TagFile
from kdlab.error import UserError
from kdlab.file import write_json
from kdlab.metric.tags import TagScores, are_entities, entities
from kdlab.model.bert import bert
from kdlab.model.save import save
from kdlab.outcome import Categorical
from kdlab.task.sequence_classification import SequenceClassification

PLACES, OTHERS = ["Paris", "Old Town", "Rome"], ["is", "near", "warm", "unreachable", "to"]


def conll(path: Path, rows: int = 80) -> Path:
    """Sentences in which names of places are tagged, some of two words; every tenth has no tags."""
    draw, lines = random.Random(0), ["-DOCSTART- O", ""]
    for number in range(rows):
        for _ in range(draw.randint(2, 5)):
            if draw.random() < 0.5:
                first, *rest = draw.choice(PLACES).split()
                pairs = [(first, "B-LOC"), *((word, "I-LOC") for word in rest)]
            else:
                pairs = [(draw.choice(OTHERS), "O")]
            lines += [word if number % 10 == 9 else f"{word}\t{tag}" for word, tag in pairs]
        lines += [f"n{number}" if number % 10 == 9 else f"n{number}\tO", ""]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def wordpiece():
    return tokens.load("train:wordpiece:110", [" ".join(OTHERS)])


@given(st.lists(st.sampled_from([*OTHERS, "Paris", "###", "a-b"]), min_size=1, max_size=8), st.integers(3, 24))
def test_pieces_and_first_pieces_are_those_of_transformers(wordpiece, words, length):
    ((ids, starts),) = pieces(wordpiece, [WORD.join(words)], length)
    expected = wordpiece(words, is_split_into_words=True, truncation=True, max_length=length)
    assert ids == expected["input_ids"]
    numbers = expected.word_ids()
    assert starts == [numbers.index(word) for word in range(len(words)) if word in numbers]


REFERENCES = {  # by the rules of conlleval and seqeval
    "B-A I-A O B-B": [("A", 0, 1), ("B", 3, 3)],
    "I-A I-A B-A": [("A", 0, 1), ("A", 2, 2)],
    "B-A I-B I-B": [("A", 0, 0), ("B", 1, 2)],
    "O I-A O": [("A", 1, 1)],
    "S-A B-B I-B E-B E-A": [("A", 0, 0), ("A", 4, 4), ("B", 1, 3)],
    "B-A B-A I-A": [("A", 0, 0), ("A", 1, 2)],
    "B-A-X I-A-X": [("A-X", 0, 1)],
    "O O": [],
}


@pytest.mark.parametrize("tags", REFERENCES)
def test_entities_are_those_of_the_rules(tags):
    assert sorted(entities(tags.split())) == REFERENCES[tags]


@given(st.lists(st.sampled_from(["O", *(f"{one}-{kind}" for one in "BIES" for kind in "XY")]), max_size=12))
def test_entities_are_those_of_seqeval(tags):
    labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    assert sorted(entities(tags)) == sorted(labeling.get_entities(tags))


def test_scores_count_entities_over_all_sentences_and_words_without_a_tag_do_not_count():
    names = ["O", "B-A", "I-A"]
    metric = TagScores(names)
    assert metric.primary == "entity_f1" and TagScores(["nn", "vb"]).primary == "accuracy"
    assert not are_entities(["O"])
    for predicted, label in (([1, 2, 0], [1, 2, 0]), ([1, 0, 0], [1, 2, -1])):
        logits = torch.nn.functional.one_hot(torch.tensor([predicted]), 3).float()
        target = torch.tensor([label])
        metric.update(*outputs(logits, target))
    found = metric.compute()
    assert found == pytest.approx({"entity_f1": 0.5, "entity_precision": 0.5, "entity_recall": 0.5, "accuracy": 0.8})
    metric.reset()
    assert metric.compute()["entity_f1"] == 0


def outputs(logits, label):
    from kdlab.batch import Batch
    from kdlab.output import Output

    mask = torch.ones(label.shape, dtype=torch.bool)
    return Output(logits, mask), Batch(torch.arange(len(label)), {}, {"label": label}, {}, mask)


def tag_file(path: Path, **more) -> TagFile:
    return TagFile(path=str(path), tokenizer="train:wordpiece:110", **more)


def test_columns_and_lists_give_the_same_rows(tmp_path):
    columns = tag_file(conll(tmp_path / "a.conll"))
    found = columns.corpus()
    rows = [{"tokens": value.split(WORD), "tags": tags} for value, tags in zip(found.values, found.labels, strict=True)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lists = tag_file(tmp_path / "a.jsonl").corpus()
    assert (lists.values, lists.labels, lists.names) == (found.values, found.labels, ["O", "B-LOC", "I-LOC"])
    assert found.labels[9] is None
    columns.setup()
    row = int(columns.splits["train"][0])
    batch = columns.encoded_rows().batch(np.array([row]))
    assert batch.target["label"][0][batch.target["first"][0]].tolist() == [
        columns.labels.index(tag) for tag in found.labels[row]
    ]
    assert batch.size["words"] == batch.size["labelled"] == len(found.labels[row])


BAD = {
    "a.jsonl": {
        '{"tokens": ["a", "b"], "tags": ["O"]}': "has 2 tokens and 1 tags",
        '{"tokens": "a b", "tags": ["O"]}': "which must be a list",
        '{"tokens": ["a", ""], "tags": ["O", "O"]}': "has an empty token or none",
        '{"tokens": ["a"], "tags": ["Q"]}': "unknown tag 'Q'; known are O, B-A",
        '{"tokens": ["a"], "tags": [7]}': "the tag number 7, and datamodule.label_names has 2 names",
        '{"words": ["a"], "tags": ["O"]}': "datamodule.token_column='tokens' is not in",
    },
    "a.conll": {
        "a O\nb\n": "the token 'b' has no tag, but others have",
        "a Q\n": "the sentence at line 1 has the unknown tag 'Q'",
        "": "has no rows",
    },
}
CASES = [(name, text) for name, texts in BAD.items() for text in texts]


@pytest.mark.parametrize(("name", "text"), CASES)
def test_a_file_that_cannot_be_read_is_one_sentence(name, text, tmp_path):
    (tmp_path / name).write_text(f"{text}\n{text}\n")
    with pytest.raises(UserError) as problem:
        tag_file(tmp_path / name, label_names=["O", "B-A"]).setup()
    assert BAD[name][text] in str(problem.value)


def test_settings_for_rows_with_one_label_are_refused_and_brown_is_read(tmp_path):
    for more in ({"per_class": 3}, {"pack": True}, {"split_column": "part"}, {"token_column": "word"}):
        with pytest.raises(UserError, match=f"datamodule.{next(iter(more))}"):
            tag_file(conll(tmp_path / "a.conll"), **more).corpus()
    (tmp_path / "ca01").write_text("\n\tThe/at Fulton/np-tl 1/2/cd ./.\n\n\tno/at*\n")
    found = Brown(tokenizer="train:wordpiece:110", path=str(tmp_path)).corpus()
    assert found.values == [WORD.join(["The", "Fulton", "1/2", "."]), "no"]
    assert found.labels == [["at", "np", "cd", "."], ["at"]]
    (tmp_path / "ca01").write_text("word")
    with pytest.raises(UserError, match="ca01: line 1 has a word without a tag"):
        Brown(tokenizer="train:wordpiece:110", path=str(tmp_path)).corpus()


class House:
    """What the matrix crosses: the options, and a teacher of tags."""

    def __init__(self, folder: Path) -> None:
        self.option = nodes("loss", "model")
        self.path = conll(folder / "places.conll")
        self.words = ["datamodule=tags", f"datamodule.path={self.path}", f"outputs={folder}"]
        base = small("distill", [*self.words, "student.tokenizer=train:wordpiece:110"])
        data = build.data(base.cfg)
        task = build.task(base.cfg, data)
        torch.manual_seed(1)
        model = bert(24, 3, 2, 32, 0.0, 64, data.tokenizer, data.labels, task="token_classification")
        self.teacher = save(task.attach(model), data.tokenizer, folder / "teacher")
        write_json(self.teacher / "labels.json", list(data.labels))
        self.data, self.task, self.base = data, task, knob(base, f"teacher.run={self.teacher}")

    def job(self, loss: str, student: str = "bert_tiny", teacher: str = "cached") -> Job:
        node = shrink(self.option["model"][student])
        node.tokenizer = "train:wordpiece:110"
        job = crossed(self.base, loss=self.option["loss"][loss], student=node)
        if teacher == "live":
            live(job)
        return job


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield House(tmp_path_factory.mktemp("house"))


REASONS = "does not fit a|several teachers|model@student=simkd|relates the rows|one value a row|has one a token"


@pytest.mark.sampled(6, tried=18)
@pytest.mark.parametrize("loss", options("loss"))
def test_every_loss_trains_on_tags_or_is_refused_with_a_reason(house, loss):
    terms = instantiate.make(house.job(loss).cfg.loss).terms.values()
    plain = all(
        issubclass(Categorical, one.outcome) and one.row_wise and not any(one.taps.values()) and not one.maps_layers
        and not one.several_teachers and not one.aligned
        for one in terms
    )  # fmt: skip
    try:
        result = train(house.job(loss))
    except UserError as problem:
        assert not plain, problem
        return
    assert result.changed and torch.tensor(result.losses).isfinite().all()


@pytest.mark.parametrize("loss", ["kd", "hint", "layers_of_teacher"])
def test_a_stored_teacher_gives_the_weights_of_a_live_one(house, loss):
    student, loss = (loss, "kd") if loss == "layers_of_teacher" else ("bert_tiny", loss)
    cached, live = (train(house.job(loss, student, teacher)).after for teacher in ("cached", "live"))
    assert max(float((cached[name] - live[name]).abs().max()) for name in cached) < 1e-5


@pytest.mark.slow
def test_only_first_pieces_count_whatever_the_other_logits_are(house):
    batch = house.data.encoded_rows().batch(house.data.splits["train"][:6])
    first = batch.target["first"]
    logits = torch.randn(*first.shape, 3, generator=torch.Generator().manual_seed(0))
    noise = logits + 9 * (~first)[..., None] * torch.randn(logits.shape)
    one, two = (house.task.frame(each, batch) for each in (logits, noise))
    assert house.task.supervised(one, batch) == house.task.supervised(two, batch)
    assert torch.equal(one.mask, first) and one.count == float(first.sum())
    values = torch.rand(first.shape)
    torch.testing.assert_close(one.mean(values), values[first].mean())


def test_models_of_rows_and_teachers_with_other_tokens_are_refused(house):
    with pytest.raises(UserError, match="MLP gives one vector of logits a row, but task=token_classification"):
        train(house.job("kd", "mlp"))
    other = knob(house.job("kd"), "student.tokenizer=train:wordpiece:150", "datamodule.tokenizer=train:wordpiece:150")
    with pytest.raises(UserError, match="has other tokens than the student, and each of them has an answer"):
        train(other)
    with pytest.raises(UserError, match="metric=tags measures a tag for each word"):
        TagScores(["a", "b"]).setup(SequenceClassification(), house.data)


def test_predicted_tags_are_those_of_the_model_on_the_data(house):
    tagger = predictor_of(Trained(house.teacher, house.teacher, "teacher"), 64)
    rows = house.data.splits["test"][:5]
    batch = house.data.encoded_rows().batch(rows)
    logits = house.task.read(tagger.model, batch).logits
    texts = [house.data.values[row].replace(WORD, " ") for row in rows.tolist()]
    expected = [
        [house.data.labels[code] for code in logits[place][batch.target["first"][place]].argmax(-1).tolist()]
        for place in range(len(rows))
    ]
    assert tagger.tags([*texts, " "]) == [*expected, None]


@pytest.mark.slow
def test_the_commands_from_a_file_to_predictions(kdlab, tmp_path):
    path = conll(tmp_path / "places.conll", 160)
    words = ["datamodule=tags", f"datamodule.path={path}", "model=bert_tiny", *[f"model.{word}" for word in TINY]]
    words += ["trainer.max_epochs=12", "optimizer.lr=0.01", "logger=none"]
    code, _, shown = kdlab("finetune", *words)
    assert code == 0, shown
    (run,) = Path("outputs/finetune").iterdir()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/entity_f1"] > 0.8 and metrics["test/majority"] < metrics["test/accuracy"]
    assert json.loads((run / "done.json").read_text())["metric"] == "val/entity_f1"
    code, out, shown = kdlab("evaluate", f"run={run.name}", "repeats=2")
    assert code == 0 and "entity_f1" in out + shown, out + shown
    (tmp_path / "new.csv").write_text('text\nOld Town is warm\n""\nRome to Paris\n')
    code, _, shown = kdlab("predict", f"run={run.name}", f"path={tmp_path / 'new.csv'}", "file=out.csv")
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert code == 0 and rows[0]["predicted"] == "B-LOC I-LOC O O" and rows[-1]["predicted"] == "B-LOC O B-LOC", shown
