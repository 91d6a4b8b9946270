"""Two texts a row, read by a model together: segments, separators, stored against live teachers, and predictions."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from small import crossed, knob, live, nodes, shrink, small, tiny_teacher, train
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from kdlab.artifact.classifier import predictor_of
from kdlab.artifact.trained import Trained
from kdlab.config import build, conf
from kdlab.datamodule import tokenizer as tokens
from kdlab.datamodule.boolq import BoolQ
from kdlab.datamodule.corpus import PAIR
from kdlab.datamodule.processor.text import Text
from kdlab.datamodule.rows import Rows
from kdlab.error import UserError

WORDS = ["red", "blue", "green", "round", "flat", "old"]


def table(path: Path, rows: int = 120) -> Path:
    """Whether both texts name the same colour."""
    draw = random.Random(0)
    lines = ["text,text_pair,label"]
    for number in range(rows):
        first, second = draw.choices(WORDS, k=2)
        lines.append(f"a {first} ball {number},a {second} one,{'same' if first == second else 'other'}")
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def bert_words(tmp_path_factory) -> Path:
    """A tokenizer that numbers the texts of a pair, as BERT's does."""
    made = tokens.wordpiece([f"a {' '.join(WORDS)} ball one 0123456789"], 120)
    names = ["input_ids", "token_type_ids", "attention_mask"]
    folder = tmp_path_factory.mktemp("words")
    PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=names, **tokens.SPECIAL).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def wordpiece(bert_words):
    found = tokens.load(str(bert_words), [])
    assert tokens.separator(found) == found.sep_token_id
    return found


@given(st.lists(st.tuples(*[st.lists(st.sampled_from(WORDS), min_size=1, max_size=9)] * 2), min_size=1, max_size=5))
def test_segments_are_those_of_the_tokenizer_whatever_is_cut_off(wordpiece, rows):
    pairs = [(" ".join(first), " ".join(second)) for first, second in rows]
    values = [PAIR.join(pair) for pair in pairs]
    ids = list(tokens.encode(wordpiece, values, 12))
    offsets = np.cumsum([0, *map(len, ids)])
    found, _ = Rows(np.concatenate(ids), offsets, 0, separator=tokens.separator(wordpiece)).collate(np.arange(len(ids)))
    expected = wordpiece(
        *map(list, zip(*pairs, strict=True)), truncation=True, max_length=12, padding=True, return_tensors="pt"
    )
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(found[name], expected[name]), name


def test_a_tokenizer_without_segments_separates_the_texts_in_its_own_way():
    """As RoBERTa: <s> a </s></s> b </s>."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.train_from_iterator([" ".join(WORDS)], trainers.BpeTrainer(special_tokens=["<s>", "<pad>", "</s>"]))
    bare.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    roberta = PreTrainedTokenizerFast(
        tokenizer_object=bare, model_input_names=["input_ids", "attention_mask"], **special
    )
    processor = Text(roberta, 32, pairs=True)
    assert processor.separator is None
    rows = processor.encode([f"red{PAIR}blue"], "pair_of_roberta")
    assert rows.row(0).tolist() == roberta("red", "blue")["input_ids"] and list(rows.row(0)).count(2) == 3
    assert set(rows.collate(np.array([0]))[0]) == {"input_ids", "attention_mask"}


class House:
    def __init__(self, folder: Path, words: Path) -> None:
        self.option = nodes("model")["model"]
        path = table(folder / "pairs.csv")
        self.words = ["datamodule=table", f"datamodule.path={path}", "datamodule.text_column=[text,text_pair]"]
        self.words += [f"outputs={folder}", f"student.tokenizer={words}"]
        self.tokenizer = str(words)
        base = small("distill", self.words)
        self.teacher = tiny_teacher(base, folder / "teacher")
        self.base = knob(base, f"teacher.run={self.teacher}")

    def job(self, student: str = "bert_tiny", teacher: str = "cached"):
        node = shrink(self.option[student])
        node.tokenizer = self.tokenizer
        job = crossed(self.base, student=node)
        if teacher == "live":
            live(job)
        return job


@pytest.fixture(scope="module")
def house(tmp_path_factory, bert_words):
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield House(tmp_path_factory.mktemp("house"), bert_words)


@pytest.mark.parametrize("student", ["bert_tiny", "mlp"])
def test_a_stored_teacher_gives_the_weights_of_a_live_one(house, student):
    """Also where the student does not tell the two texts apart and the teacher does."""
    cached, live = (train(house.job(student, teacher)) for teacher in ("cached", "live"))
    assert cached.changed
    assert max(float((cached.after[name] - live.after[name]).abs().max()) for name in cached.after) < 1e-5


def test_predictions_of_a_pair_are_those_on_the_data_and_its_order_matters(house):
    data = build.data(house.base.cfg)
    task = build.task(house.base.cfg, data)
    trained = Trained(house.teacher, house.teacher, "teacher")
    batch = data.encoded_rows().batch(np.arange(8))
    assert batch.inputs["token_type_ids"].any()
    expected = task.read(trained.model.eval(), batch).logits
    predictor = predictor_of(trained, 64)
    found, _ = predictor.logits(data.values[:8])
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)
    turned, _ = predictor.logits([PAIR.join(reversed(value.split(PAIR))) for value in data.values[:8]])
    assert not torch.allclose(turned, found, atol=1e-4)


def test_a_pair_without_a_partner_is_one_sentence(tmp_path, kdlab):
    (tmp_path / "pairs.csv").write_text("text,text_pair,label\na,b,x\nc,,y\n")
    words = ["datamodule=table", f"datamodule.path={tmp_path / 'pairs.csv'}"]
    code, _, shown = kdlab("finetune", *words, "datamodule.text_column=[text,text_pair]")
    assert code == 2 and "line 3 is empty" in shown and "Traceback" not in shown, shown


def test_questions_and_paragraphs_are_pairs_and_no_paragraph_is_in_two_splits(tmp_path):
    path = tmp_path / "boolq.jsonl"
    rows = [
        {"question": f"is it {number}", "passage": f"It is {number // 3}.", "label": [True, False, None][number % 3]}
        for number in range(90)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    data = BoolQ(tokenizer="train:wordpiece:200", path=str(path))
    data.setup()
    assert data.labels == ["no", "yes"] and sum(data.label_counts) < 60
    passages = {name: {data.values[row].split(PAIR)[1] for row in index} for name, index in data.splits.items()}
    assert not passages["train"] & passages["test"] and not passages["train"] & passages["val"]
    path.write_text('{"question": "is it"}')
    with pytest.raises(UserError, match=r"line 1 of .* is no json object with question, passage"):
        data.corpus()
