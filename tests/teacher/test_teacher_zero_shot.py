"""Teachers that know classes by descriptions: what their logits are, and a distillation without a single label."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from kdlab.datamodule.tokenizer import load
from kdlab.error import UserError
from kdlab.model.zero_shot import cosine, entailment
from kdlab.teacher.zero_shot import described

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
TEXTS = ["a good film", "the plot is dull and weak", "boring"]


@pytest.fixture(scope="module")
def models(tmp_path_factory, reviews) -> dict[str, Path]:
    """A tiny encoder and a tiny NLI model with random weights, large enough that texts differ."""
    folder = tmp_path_factory.mktemp("models")
    words = load("train:wordpiece:150", [line.split(",")[0] for line in reviews.read_text().splitlines()])
    torch.manual_seed(0)
    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    config = BertConfig(vocab_size=len(words), **SIZES)
    made = {"encoder": BertModel(config)}
    made["nli"] = BertForSequenceClassification(
        BertConfig(vocab_size=len(words), **SIZES, id2label=names, label2id={name: i for i, name in names.items()})
    )
    for name, model in made.items():
        for parameter in model.parameters():
            parameter.data *= 4
        model.save_pretrained(folder / name)
        words.save_pretrained(folder / name)
    return {name: folder / name for name in made}


def padded(words, texts):
    found = words(texts, padding=True, return_tensors="pt")
    return found["input_ids"], found["attention_mask"]


def test_a_text_that_is_its_description_has_cosine_one(models):
    words = load(str(models["encoder"]), [])
    model = cosine(str(models["encoder"]), [["bad"], [TEXTS[0], TEXTS[0]]], words, 0.5, False)
    logits = model(*padded(words, TEXTS))
    assert float(logits[0, 1]) == pytest.approx(1 / 0.5, abs=1e-5)
    assert (logits.abs() <= 2 + 1e-5).all()
    alone = torch.cat([model(*padded(words, [text])) for text in TEXTS])
    torch.testing.assert_close(alone, logits, msg="padding counts")


def test_several_descriptions_of_a_class_are_averaged(models):
    words = load(str(models["encoder"]), [])
    both = cosine(str(models["encoder"]), [["bad"], ["good", "fine"]], words, 1.0, False)
    one, two = (
        cosine(str(models["encoder"]), [["bad"], [text]], words, 1.0, False).classes[1] for text in ("good", "fine")
    )
    torch.testing.assert_close(both.classes[1], torch.nn.functional.normalize(one + two, dim=0))


def test_entailment_is_what_the_model_says_of_the_pair(models):
    words = load(str(models["nli"]), [])
    model = entailment(str(models["nli"]), ["it was bad", "it was a good film"], words, 2.0, False)
    logits = model(*padded(words, TEXTS))
    for row, text in enumerate(TEXTS):
        for index, hypothesis in enumerate(["it was bad", "it was a good film"]):
            pair = words(text, hypothesis, return_tensors="pt", return_token_type_ids=True)
            expected = model.model(**pair).logits[0, 2] / 2
            torch.testing.assert_close(logits[row, index], expected)


def test_an_encoder_entails_nothing(models):
    words = load(str(models["encoder"]), [])
    with pytest.raises(UserError, match=r"choose teacher\.by=cosine"):
        entailment(str(models["encoder"]), ["a", "b"], words, 1.0, False)


def test_descriptions_are_those_of_the_labels():
    labels = ["bad", "good"]
    assert described(None, labels, "It was {}.") == [["It was bad."], ["It was good."]]
    assert described({"good": ["a", "b"], "bad": "c"}, labels, "{}") == [["c"], ["a", "b"]]
    for given, template, said in (
        ({"good": "a"}, "{}", "names good, but the labels are bad, good"),
        (None, "it", "must have {} where"),
        ({"good": [], "bad": "c"}, "{}", "descriptions.good is empty"),
    ):
        with pytest.raises(UserError, match=said):
            described(given, labels, template)


@pytest.mark.slow
@pytest.mark.parametrize(("by", "model"), [("cosine", "encoder"), ("entailment", "nli")])
def test_a_student_learns_without_any_label(kdlab, tiny, models, by, model):
    words = [word for word in tiny["distill"] if "teacher" not in word]
    words += ["teacher=zero_shot", f"teacher.path={models[model]}", f"teacher.by={by}", "logger=none"]
    words += ["teacher.descriptions={negative: a dull film, positive: a good film}", "datamodule.per_class=0"]
    code, _, err = kdlab("distill", *words)
    assert code == 2 and "set loss.alpha=1" in err
    code, out, err = kdlab("distill", "-m", *words, "loss.alpha=1", "loss.temperature=1,2")
    assert code == 0, out + err
    assert len(list(Path("outputs/store").glob("*/meta.json"))) == 1, "asked once"
    run = next(Path("outputs/distill").glob("*/done.json")).parent
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/fidelity/agreement"] > 0.5 and "teacher/test/accuracy" in metrics
    assert not list(Path("outputs").glob("finetune/*"))


@pytest.mark.sampled(2, tried="all")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["teacher.by=magic"], "teacher.by is 'magic', but must be one of cosine, entailment"),
        (["teacher.by=entailment"], "choose teacher.by=cosine"),
        (["loss=hint"], "teacher=zero_shot offers logits only, and no 'hidden.-1'"),
        (["teacher.descriptions={good: x}"], "the labels are negative, positive"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(kdlab, tiny, models, more, said):
    words = [word for word in tiny["distill"] if "teacher" not in word]
    code, _, err = kdlab(
        "distill", *words, "teacher=zero_shot", f"teacher.path={models['encoder']}", "logger=none", *more
    )
    assert code == 2 and said in err and err.count("error: ") == 1 and "Traceback" not in err, err
