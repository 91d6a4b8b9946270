"""Pairs of texts: columns, splits by source, tokens of both sides and what a batch of them costs."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.datamodule.pairs import Pairs
from kdlab.datamodule.processor.pairs import PairRows
from kdlab.datamodule.processor.pairs import Pairs as Processor
from kdlab.datamodule.pronunciations import Pronunciations
from kdlab.datamodule.rows import Rows
from kdlab.datamodule.sampler import TokenBudget
from kdlab.datamodule.tokenizer import encode_targets, load
from kdlab.datamodule.translations import Translations
from kdlab.error import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))


def table(path, rows, head="source,target"):
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def pairs(path, **more):
    settings = {"tokenizer": "train:char", "target_tokenizer": "train:symbol", "max_length": 16}
    found = Pairs(path=str(path), **settings | more)
    found.setup()
    return found


def words(count=60):
    """Each word with two pronunciations."""
    names = ["".join("abcdefgh"[int(digit)] for digit in f"{number:03o}") for number in range(count)]
    return [f"{name},{' '.join(sound)}" for name in names for sound in (name, name[::-1])]


def test_a_batch_has_both_sides_and_the_target_moved_once(tmp_path):
    data = pairs(table(tmp_path / "a.csv", words()))
    batch = data.encoded_rows().batch(np.array([3, 10]))
    target = data.processor.target_tokenizer
    for row, index in enumerate((3, 10)):
        source, written = data.values[index].split("\x1f")
        label = batch.target["label"][row][batch.tokens[row]].tolist()
        assert target.decode(label, skip_special_tokens=True) == written and label[-1] == target.sep_token_id
        moved = batch.inputs["decoder_input_ids"][row][batch.tokens[row]].tolist()
        assert moved == [target.cls_token_id, *label[:-1]]
        ids = batch.inputs["input_ids"][row][batch.inputs["attention_mask"][row].bool()].tolist()
        assert data.processor.tokenizer.decode(ids, skip_special_tokens=True) == source
        assert data.processor.decode([label]) == [written]
    assert batch.size["tokens"] == batch.tokens.sum()
    assert data.processor.ends == (target.sep_token_id,)


def test_no_source_is_in_two_splits(tmp_path):
    data = pairs(table(tmp_path / "a.csv", words()))
    sources = {name: {data.questions[row] for row in rows} for name, rows in data.splits.items()}
    assert sum(map(len, sources.values())) == len(set.union(*sources.values())) == 60
    assert len(data.splits["train"]) > 80


def test_a_source_in_two_splits_of_the_file_is_refused_or_dropped(tmp_path):
    rows = [f"{row},train" for row in words()] + ["aaa,x y,test", "hhh,x,val", "ggg,x,test"]
    path = table(tmp_path / "a.csv", rows, "source,target,part")
    with pytest.raises(UserError, match="which makes results look better"):
        pairs(path, split_column="part")
    data = pairs(path, split_column="part", overlap="drop")
    assert "aaa" not in {data.questions[row] for row in data.splits["train"]}


@pytest.mark.parametrize(
    ("rows", "more", "sentence"),
    [
        (["a,"], {}, "line 2 has no text in the column 'target': fill it, or set datamodule.incomplete=drop"),
        (["a,b", ",b", ",c"], {}, "line 3 has no text in the column 'source', nor has 1 other row"),
        (["a,"], {"incomplete": "drop"}, "no row has both a source and a target"),
        (["a,b"], {"source_column": "sorce"}, "source_column='sorce' is not in .* did you mean 'source'"),
        (["a,b"], {"target_column": "source"}, "name two columns"),
        (["a,b"], {"incomplete": "maybe"}, "must be refuse or drop"),
        (["a,b"], {"target_tokenizer": "train:letter"}, "train:char"),
        (["a,b"], {"max_target_length": 0}, "must be 1 or more"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, rows, more, sentence):
    with pytest.raises(UserError, match=sentence):
        pairs(table(tmp_path / "a.csv", [*rows, *words()] if "both" not in sentence else rows), **more)


def test_what_is_left_out_or_there_twice_is_noticed(tmp_path):
    data = pairs(table(tmp_path / "a.csv", [*words(), "abc,", *words()[:2]]), incomplete="drop")
    shown = " ".join(data.notices)
    assert "1 row is left out, without a source or a target" in shown
    # beside the two, 8 words are the same from behind
    assert "10 rows have the source and the target of an earlier row" in shown
    assert len(data.column("target")) == len(data.values)


def test_targets_that_are_cut_keep_their_end_and_are_noticed(tmp_path):
    data = pairs(table(tmp_path / "a.csv", words()), max_target_length=3)
    batch = data.encoded_rows().batch(np.arange(5))
    assert (batch.target["label"].max(1).values >= 0).all() and batch.length == 3
    assert (batch.target["label"][:, -1] == data.processor.target_tokenizer.sep_token_id).all()
    assert "raise datamodule.max_target_length" in " ".join(data.notices)


def test_one_tokenizer_of_both_sides_knows_both(tmp_path):
    data = pairs(table(tmp_path / "a.csv", words()), target_tokenizer=None)
    assert data.processor.shared and set(data.processor.arguments()) == {"tokenizer"}
    assert data.processor.tokenizer.convert_tokens_to_ids(" ") != data.processor.tokenizer.unk_token_id


def test_the_fingerprint_knows_targets_and_lengths(tmp_path):
    path = table(tmp_path / "a.csv", words())
    known = {pairs(path).fingerprint, pairs(path, max_target_length=9).fingerprint}
    known.add(pairs(table(tmp_path / "b.csv", [*words()[:-1], "zzz,q"])).fingerprint)
    assert len(known) == 3


def test_a_saved_processor_is_read_again(tmp_path):
    data = pairs(table(tmp_path / "a.csv", words()))
    (tmp_path / "saved").mkdir()
    data.processor.save_pretrained(tmp_path / "saved")
    again = data.processor.saved(tmp_path / "saved")
    assert isinstance(again, Processor) and data.processor.equals(again) and not again.shared
    other = Processor(data.processor.tokenizer, load("train:symbol", ["x y"]), 16, 16)
    assert not data.processor.equals(other)


def test_characters_and_symbols_are_read_and_written_without_loss():
    texts = ["Ab  c!", "über Ænima", "a\nb", "k ˈæ t"]
    char, symbol = load("train:char", texts), load("train:symbol", texts)
    for text in texts:
        assert char.decode(char(text)["input_ids"], skip_special_tokens=True) == text
    assert symbol.decode(symbol("ˈæ k")["input_ids"], skip_special_tokens=True) == "ˈæ k"
    assert symbol("ˈæ x")["input_ids"][2] == symbol.unk_token_id


def test_the_same_texts_in_any_order_make_the_same_tokenizer():
    one, two = load("train:symbol", ["b a", "c"]), load("train:symbol", ["c", "b a"])
    assert one.get_vocab() == two.get_vocab()


def test_a_begin_for_classes_is_no_target_and_one_of_the_sequence_is():
    tokenizer = load("train:char", ["abc"])
    plain = next(encode_targets(tokenizer, ["abc"], 9))
    assert tokenizer.convert_ids_to_tokens(plain) == ["a", "b", "c", "[SEP]"]
    tokenizer.bos_token = "[CLS]"
    assert tokenizer.convert_ids_to_tokens(next(encode_targets(tokenizer, ["abc"], 9)))[0] == "[CLS]"
    tokenizer.bos_token = tokenizer.sep_token = tokenizer.eos_token = None
    with pytest.raises(UserError, match="could not learn to stop"):
        next(encode_targets(tokenizer, ["abc"], 9))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=40), st.integers(18, 60))
def test_a_step_never_reads_more_tokens_than_its_budget(lengths, budget):
    source, target = (np.array(side) for side in zip(*lengths, strict=True))

    def rows(side):
        return Rows(np.ones(side.sum(), np.int32), np.concatenate([[0], np.cumsum(side)]))

    encoded = PairRows(rows(source), rows(target), 1)
    sampler = TokenBudget(budget, int(encoded.costs.max()))
    steps = sampler.steps(encoded.costs, 1, 0)
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(lengths)))
    for step in steps:
        assert len(step) * (source[step].max() + target[step].max()) <= budget


def test_pronunciations_are_words_of_letters_each_once(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("!MARK\tm\nA\tə\nA\tˈe ɪ\nA\tə\nB'S\tb\n" + "".join(f"W{'A' * n}\tw\n" for n in range(40)))
    own = {"path": str(path), "tokenizer": "train:char", "target_tokenizer": "train:symbol"}
    assert Pronunciations(**own).corpus().values[:3] == ["A\x1fə", "A\x1fˈe ɪ", "W\x1fw"]
    path.write_text("A ə\n")
    with pytest.raises(UserError, match="line 1 of"):
        Pronunciations(**own).corpus()


def test_translations_are_joined_by_key_over_all_pages(tmp_path):
    digest = "0" * 32
    (tmp_path / "page").mkdir()
    for language, texts in {"en": ["one two three", "x {y} z", "two words"], "de": ["eins", "x {y} z", "zwei"]}.items():
        (tmp_path / f"{language}-{digest}.json").write_text(json.dumps({"a": texts[0], "b": texts[1]}))
        (tmp_path / f"page/{language}-{digest}.json").write_text(json.dumps({"c": texts[2], "d": texts[0]}))
    own = {"path": str(tmp_path), "tokenizer": "train:wordpiece:200"}
    assert Translations(**own).corpus().values == ["one two three\x1feins"]
    assert len(Translations(**own, words=2).corpus().values) == 2
    with pytest.raises(UserError, match="choose one of de, en"):
        Translations(**own, language="xx").corpus()
