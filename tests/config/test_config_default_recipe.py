"""Which teachers are trained first where no recipe is named: all but pretrained language models."""

from __future__ import annotations

import pytest
from chats import chats
from gguf_file import write_gguf
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from kdlab.config import conf
from kdlab.config.default_recipe import AS_IT_IS, taken_as_it_is
from kdlab.config.job import composed
from kdlab.config.signature import inherits

CHAT = ("task=causal_lm", "datamodule=chat", "datamodule.path=x.jsonl")
PAIRS = ("datamodule=pairs", "datamodule.path=x.csv", "datamodule.source_column=a", "datamodule.target_column=b")
HF = ("model@teacher.model=hf", "teacher.model.path=folder")


@pytest.fixture(scope="module")
def teacher():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield lambda *words: composed("distill", [*words, "model@student=gpt_tiny"]).cfg.teacher


@pytest.mark.parametrize(
    "words, as_it_is",
    [
        (CHAT, True),
        ((*CHAT, "teacher=live"), True),
        ((*PAIRS, *HF), True),
        ((*CHAT, "teacher.model.pretrained=false"), False),
        ((*CHAT, "teacher.model.layers=[0,1]"), False),
        ((*PAIRS, *HF, "teacher.model.encoder_layers=[0]"), False),
        ((*CHAT, "model@teacher.model=gpt_tiny"), False),
        (HF, False),
    ],
)
def test_only_a_whole_pretrained_language_model_teaches_as_it_is(teacher, words, as_it_is):
    node = teacher(*words)
    assert list(node.recipe) == [AS_IT_IS] * as_it_is
    assert taken_as_it_is(node) == as_it_is


@pytest.mark.parametrize("word", ["teacher.recipe=[]", "teacher.run=abc", "teacher.generations=1"])
def test_a_teacher_that_is_named_is_not_taken_as_it_is(teacher, word):
    node = teacher(*CHAT, word)
    assert not taken_as_it_is(node)
    if "recipe" in word:
        assert AS_IT_IS not in node.recipe


def test_a_teacher_that_is_no_trained_model_has_no_recipe(teacher):
    assert not taken_as_it_is(teacher(*CHAT, "teacher=ema")) and not taken_as_it_is(None)


def test_what_a_class_is_derived_from_is_read_from_its_code():
    assert inherits("kdlab.task.seq2seq.Seq2Seq", "GenerativeTask")
    assert not inherits("kdlab.task.classification.Classification", "GenerativeTask")
    assert not inherits("kdlab.output.at_least_float32", "GenerativeTask")
    assert not inherits("missing.thing", "GenerativeTask") and not inherits("None", "GenerativeTask")


@pytest.mark.slow
def test_one_line_says_that_the_teacher_is_not_trained_and_how_it_would_be(kdlab, tmp_path):
    pytest.importorskip("gguf")
    words = ["task=causal_lm", "metric=causal_lm", "datamodule=chat", f"datamodule.path={chats(tmp_path / 'c.jsonl')}"]
    words += ["datamodule.max_length=64", "trainer.max_steps=1", "logger=none", "model@student=gpt_tiny"]
    words += ["student.hidden_size=16", "student.layers=1", "model@teacher.model=hf", "teacher.top_k=4"]
    words += [f"teacher.model.path={write_gguf(tmp_path / 'tiny.gguf')}", f"student.tokenizer={tmp_path / 'tiny.gguf'}"]
    code, out, err = kdlab("distill", *words)
    assert code == 0, out + err
    assert "hf teaches as it is; to fine-tune it first: teacher.recipe=[]" in out + err
    assert "is measured and saved as it is (1 of 2 runs)" in out + err and "trained first" not in out + err
