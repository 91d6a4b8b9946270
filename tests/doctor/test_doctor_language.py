"""What the doctor finds of language models: pairs that do not fit, logits that are too large, rows too long."""

from __future__ import annotations

from pathlib import Path

import pytest
from chats import CHATML, END, LLAMA3, byte_level, chats
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from kdlab.datamodule.processor.chat import Chat
from kdlab.doctor import language
from kdlab.doctor.language import Logits, context, sizes

BEGUN = "{{ bos_token }}" + CHATML


def pair(student: tuple[str, str], teacher: tuple[str | None, str]) -> tuple[list[str], list[str]]:
    """Clashes and differences of two processors, each of a template and an end of texts."""
    one, two = (Chat(byte_level(*given), 99) for given in (student, teacher))
    return one.clashes(two), one.differences(two)


def test_the_same_tokenizer_is_no_finding_and_neither_is_padding_that_ends_texts():
    assert pair((CHATML, END), (CHATML, END)) == ([], [])
    assert byte_level(CHATML, END).pad_token_id == byte_level(CHATML, END).eos_token_id


def test_another_end_of_a_turn_is_wrong_and_names_both_ids():
    (wrong,), _ = pair((LLAMA3, "</s>"), (CHATML, "</s>"))
    stop, end = (byte_level().convert_tokens_to_ids(one) for one in ("<|eot_id|>", "</s>"))
    assert f"'<|eot_id|>' ({stop})" in wrong
    assert f"'</s>' ({end})" in wrong
    assert "set student.tokenizer" in wrong


def test_another_end_of_texts_is_a_note_where_the_teacher_ends_turns_as_the_student_does():
    wrong, notes = pair((CHATML, "</s>"), (CHATML, END))
    assert not wrong
    assert any("'</s>'" in note and f"'{END}'" in note for note in notes)


def test_other_templates_and_missing_ones_are_notes():
    _, notes = pair((CHATML, END), (CHATML.replace("'\n'", "' '"), END))
    assert any("chat templates of student and teacher differ" in note for note in notes)
    _, notes = pair((CHATML, END), (None, END))
    assert any("the teacher has no chat template" in note for note in notes)


@pytest.mark.parametrize("student_has_it", [True, False])
def test_a_begin_of_texts_on_one_side_only_is_a_note(student_has_it):
    one, two = (BEGUN, END), (CHATML, END)
    _, notes = pair(*((one, two) if student_has_it else (two, one)))
    assert any(
        f"only the dialogues of the {'student' if student_has_it else 'teacher'} begin with '<s>'" in n for n in notes
    )


def test_rows_longer_than_the_context_are_wrong_for_positions_of_any_kind():
    small = {
        "vocab_size": 9,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    rotary = AutoModelForCausalLM.from_config(LlamaConfig(**small, max_position_embeddings=64))
    table = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=9, n_embd=8, n_head=2, n_layer=1, n_positions=64))
    for model in (rotary, table):
        assert context("student", model, 64) == ""
        assert "rows have up to 65 tokens" in context("student", model, 65)
        assert "datamodule.max_length=64" in context("student", model, 65)


def test_the_bytes_of_logits_are_positions_times_vocabulary_times_four():
    assert Logits(16_384, 49_152, None).bytes == 16_384 * 49_152 * 4
    assert Logits(16_384, 49_152, 512).bytes == 512 * 49_152 * 4
    assert "task.chunk=1024" in Logits(16_384, 49_152, None).advice
    assert "batch_size" in Logits(16_384, 49_152, 512).advice
    assert "student 151,936, teacher 152,064" in sizes({"student": 151_936, "teacher": 152_064})


@pytest.fixture
def words(tmp_path) -> list[str]:
    """A teacher that is trained first, and a student, on dialogues."""
    folder = tmp_path / "tokenizer"
    byte_level(CHATML, END).save_pretrained(folder)
    size = ["hidden_size=16", "layers=1", "heads=2", "intermediate_size=32", f"tokenizer={folder}"]
    found = ["task=causal_lm", "metric=[causal_lm,fidelity]", "datamodule=chat", "loss=kd_top_k", "teacher.top_k=4"]
    found += [f"datamodule.path={chats(tmp_path / 'chats.jsonl')}", "datamodule.batch_size=16", "logger=none"]
    found += [
        "model@student=gpt_tiny",
        "model@teacher.model=gpt_tiny",
        "trainer.max_epochs=1",
        "datamodule.max_length=99",
    ]
    return found + [f"student.{word}" for word in size] + [f"teacher.model.{word}" for word in size]


@pytest.mark.slow
def test_doctor_looks_at_dialogues_and_names_the_time_of_a_step(kdlab, words):
    code, out, err = kdlab("doctor", "distill", *words)
    assert code == 0, err
    assert " steps of " in out
    assert "No problems found" in out


@pytest.mark.slow
def test_logits_that_do_not_fit_end_before_a_step(kdlab, words, monkeypatch):
    monkeypatch.setattr(language, "physical", lambda: 1000)
    code, _, err = kdlab("doctor", "distill", *words)
    assert code == 2
    assert "of logits for each model, and this machine has 1 kB: task.chunk=1024" in err
    assert not Path("outputs").exists()
