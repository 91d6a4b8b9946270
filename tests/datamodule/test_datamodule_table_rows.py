"""What is odd about a table's rows, labels and splits, and the advice where a column is not there."""
# ruff: noqa: E501  lines, what they are read as, and the sentence stand in one line each

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kdlab.datamodule import odd
from kdlab.datamodule.table import Table
from kdlab.error import UserError

TOKENIZER = "train:wordpiece:200"
ROWS = [f"row {number},{'pos' if number % 2 else 'neg'}" for number in range(60)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))


def data(tmp_path, lines, header="text,label", **options) -> Table:
    (tmp_path / "a.csv").write_text("\n".join([header, *lines]), "utf-8")
    found = Table(path=str(tmp_path / "a.csv"), tokenizer=options.pop("tokenizer", TOKENIZER), **options)
    found.setup()
    return found


PARTS = [f"{row},{part}" for row, part in zip(ROWS, ["train"] * 40 + ["val"] * 10 + ["test"] * 10, strict=True)]
ODD = {
    "many labels": ([f"row {i},id{i % 150}" for i in range(300)], {}, "has 150 different values, such as 'id0'"),
    "no label": ([*ROWS, "without,", "too,"], {}, "2 rows have no label, first: line 62"),
    "one character": ([f"{chr(97 + i % 26)}{i if i < 9 else ''},{i % 2}" for i in range(60)], {}, "most texts have one character"),
    "several labels": ([*[f"w {i},long" for i in range(9)], *ROWS, "a,pos;long", "b,pos;neg"], {}, "2 rows have a label such as 'pos;long', which ';' splits into known labels"),
    "empty rows": ([*ROWS, ",", ""], {}, "1 empty row was left out"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_is_told(tmp_path, case, caplog):
    lines, options, message = ODD[case]
    found = data(tmp_path, lines, **options)
    assert [told for told in found.notices if message in told], found.notices
    assert message in caplog.text


def test_labels_that_are_no_classes_are_refused_unless_they_are_named(tmp_path):
    lines = [*(f"row {i},id{i:02}" for i in range(30)), *(f"more {i},id{i:02}" for i in range(25))]
    with pytest.raises(UserError, match=r"55 rows have 30 different labels, such as 'id00', so most cannot be learned"):
        data(tmp_path, lines)
    named = [f"id{i:02}" for i in range(30)]
    assert data(tmp_path, lines, label_names=named).labels == named
    assert data(tmp_path, lines, whole=True).labels == named, "rows that are only measured may be few"
    assert len(data(tmp_path, [*lines, *(f"last {i},id00" for i in range(5))]).labels) == 30, "half as many as rows"
    assert len(data(tmp_path, [f"row {i},id{i:02}" for i in range(20)]).labels) == 20, "few classes"
    real = [f"row {i},{(i % 25 - 2) / 4}" for i in range(90)]
    with pytest.raises(
        UserError, match=r"25 different numbers with a fraction, such as -0\.25.*datamodule\.label_names"
    ):
        data(tmp_path, real)
    assert len(data(tmp_path, [f"row {i},{i % 10 / 2}" for i in range(90)]).labels) == 10, "half stars"
    for label in ("{}.0", "{}e2", "v{}.5"):
        assert len(data(tmp_path, [f"row {i},{label.format(i % 3)}" for i in range(60)]).labels) == 3, label
    assert len(data(tmp_path, [f"row {i},{['nan', 'inf', '1'][i % 3]}" for i in range(60)]).labels) == 3


def test_a_notice_is_logged_once_for_all_data_of_a_process(tmp_path, caplog):
    lines = [*ROWS, "without,"]
    assert data(tmp_path, lines).notices == data(tmp_path, lines).notices
    assert caplog.text.count("1 row has no label") == 1


def test_an_ordinary_table_is_not_odd(tmp_path):
    assert data(tmp_path, ROWS).notices == []


def test_a_class_of_the_test_split_alone_is_told(tmp_path):
    lines = [*PARTS[:-1], "row 59,rare,test"]
    found = data(tmp_path, lines, "text,label,part", split_column="part")
    assert found.notices == ["no training row has the label 'rare', but test rows have: it cannot be learned"]


def test_unknown_tokens_are_told(tmp_path):
    spec = str(tmp_path / "english")
    data(tmp_path, ROWS).tokenizer.save_pretrained(spec)
    found = data(tmp_path, [f"{'很好的电影' * 3}{i},{i % 2}" for i in range(60)], tokenizer=spec)
    assert "of the tokens are unknown to the tokenizer of english" in found.notices[-1]
    assert "model@teacher.model=bert_tiny teacher.model.tokenizer=train:wordpiece:8000" in found.notices[-1]
    assert found.processor.problems(found.encoded.rows) == [found.notices[-1]]
    some = data(tmp_path, [f"row {'很' * (i % 2)}{i},{i % 2}" for i in range(60)], tokenizer=spec)
    assert "of the tokens are unknown" in some.notices[-1] and not some.processor.problems(some.encoded.rows)
    assert odd._name(SimpleNamespace(name_or_path="cache/wheel/english==1/english/model")) == "english"
    assert data(tmp_path, ROWS, tokenizer=spec).notices == []
    view = data(tmp_path, ROWS)
    assert odd.unknown(view.encoded.rows, view.tokenizer) == []


COLUMNS = {
    "another name": ("message,topic", {}, "the header, its first line): set datamodule.text_column to one of them$"),
    "a near name": ("texts,label", {}, "the header, its first line); did you mean 'texts'?"),
    "other case": ("Text,label", {}, "did you mean 'Text'?"),
    "no label": ("text,topic", {}, "set datamodule.label_column to one of them, or to null if no row has a label"),
    "a separator": ("message;topic", {}, "if ';' stands between its fields, set \"datamodule.separator=';'\""),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_that_is_not_there_is_answered_with_what_to_do(tmp_path, case):
    header, options, advice = COLUMNS[case]
    rows = ["hello;good"] if ";" in header else ["hello,good"]
    with pytest.raises(UserError) as told:
        data(tmp_path, rows, header, **options)
    assert str(told.value).endswith(advice.removesuffix("$"))


@pytest.mark.parametrize("row", ["hello, you;good", '"hello, you";good', '"hello";"good, indeed"'])
@pytest.mark.parametrize("mark", [";", "\t"])
def test_another_separator_is_advised_where_texts_have_commas(tmp_path, row, mark):
    word = "'\\t'" if mark == "\t" else "';'"
    with pytest.raises(UserError) as told:
        data(tmp_path, [row.replace(";", mark)] * 9, f"message{mark}topic")
    assert f'if {word} stands between its fields, set "datamodule.separator={word}"' in str(told.value)
    assert "double quotes" not in str(told.value)


def test_given_splits_that_share_texts_are_refused_dropped_or_allowed(tmp_path):
    lines = [*PARTS, "row 55,pos,train", "row 45,pos,train", "row 55,pos,val"]
    options = {"header": "text,label,part", "split_column": "part"}
    with pytest.raises(UserError, match=r"1 val row has a text of the test split too \(first: line 64\).*overlap=drop"):
        data(tmp_path, lines, **options)
    dropped = data(tmp_path, lines, overlap="drop", **options)
    assert {name: len(rows) for name, rows in dropped.splits.items()} == {"train": 40, "val": 10, "test": 10}
    assert len(dropped.notices) == 3
    allowed = data(tmp_path, lines, overlap="allow", **options)
    assert {name: len(rows) for name, rows in allowed.splits.items()} == {"train": 42, "val": 11, "test": 10}


def test_splits_that_are_cut_here_share_no_text(tmp_path):
    found = data(tmp_path, [f"row {number % 17},{'pos' if number % 3 else 'neg'}" for number in range(200)])
    texts = {name: {found.values[row] for row in rows} for name, rows in found.splits.items()}
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["val"] and not texts["val"] & texts["test"]
    assert all(" left out: " in told for told in found.notices) and found.notices


def test_a_pair_is_tokenised_as_the_tokenizer_joins_two_texts(tmp_path):
    lines = [f"good {i},bad {i},{i % 2}" for i in range(60)]
    found = data(tmp_path, lines, "a,b,label", text_column=["a", "b"], max_length=8)
    batch = next(iter(found.val_dataloader()))
    for ids, mask, row in zip(
        batch.inputs["input_ids"], batch.inputs["attention_mask"], batch.row.tolist(), strict=True
    ):
        expected = found.tokenizer(f"good {row}", f"bad {row}", truncation=True, max_length=8)["input_ids"]
        assert ids[mask.bool()].tolist() == expected
    assert expected.count(found.tokenizer.sep_token_id) == 2
