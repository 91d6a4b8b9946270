"""Tables as people have them: read right, or refused in one sentence that names the line."""
# ruff: noqa: E501  a file, what it is read as, and the sentence stand in one line each

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdlab.datamodule.corpus import PAIR
from kdlab.datamodule.encoding import decode, guess
from kdlab.datamodule.frame import read
from kdlab.datamodule.table import Table
from kdlab.error import UserError

TOKENIZER = "train:wordpiece:200"
ROWS = [f"row {number},{'pos' if number % 2 else 'neg'}" for number in range(60)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))


def corpus(tmp_path, content: str | bytes, name: str = "a.csv", **options):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return Table(path=str(tmp_path / name), tokenizer=TOKENIZER, **options).corpus()


def rows(tmp_path, content: str | bytes, name: str = "a.csv", **options) -> list[tuple[str, object]]:
    found = corpus(tmp_path, content, name, **options)
    return list(zip(found.values, found.labels, strict=True))


GOOD = [("good", "pos"), ("bad", "neg")]
RIGHT = {
    "quoted separator": ('text,label\n"good, indeed",pos\n', "a.csv", {}, [("good, indeed", "pos")]),
    "doubled quotes": ('text,label\n"he said ""x"", ok",neg\n', "a.csv", {}, [('he said "x", ok', "neg")]),
    "quote within a field": ('text,label\na 5" disk,pos\n', "a.csv", {}, [('a 5" disk', "pos")]),
    "line break in quotes": ('text,label\n"good\nfilm",pos\nbad,neg', "a.csv", {}, [("good\nfilm", "pos"), GOOD[1]]),
    "trailing commas": ("text,label,\ngood,pos,\nbad,neg,\n", "a.csv", {}, GOOD),
    "trailing comma in the rows": ("text,label\ngood,pos,\nbad,neg\n", "a.csv", {}, GOOD),
    "bare carriage return": ("text,label\ngood\rfilm,pos\nbad,neg\n", "a.csv", {}, [("good\rfilm", "pos"), GOOD[1]]),
    "doubled carriage returns": (b"text,label\r\r\ngood,pos\r\r\nbad,neg\r\r\n", "a.csv", {}, GOOD),
    "old Macintosh": ("text,label\rgood,pos\rbad,neg\r", "a.csv", {}, GOOD),
    "Windows": ("text,label\r\ngood,pos\r\nbad,neg\r\n", "a.csv", {}, GOOD),
    "mark": ("\ufefftext,label\ngood,pos\nbad,neg\n", "a.csv", {}, GOOD),
    "empty lines": ("text,label\ngood,pos\n\n,\nbad,neg\n\n\n", "a.csv", {}, GOOD),
    "index column": (",text,label\n0,good,pos\n1,bad,neg\n", "a.csv", {}, GOOD),
    "spaces in the header": (" text , label\ngood, pos\nbad,neg\n", "a.csv", {}, GOOD),
    "numeric header": ("0,1\ngood,pos\nbad,neg\n", "a.csv", {"text_column": 0, "label_column": 1}, GOOD),
    "semicolons": ("text;label\ngood;pos\nbad;neg\n", "a.csv", {"separator": ";"}, GOOD),
    "tab by its name": ("text\tlabel\ngood\tpos\nbad\tneg\n", "a.csv", {"separator": "\\t"}, GOOD),
    "quote that swallows in a tsv": (
        'text\tlabel\n"good\tpos\nbad\tneg\nso "so\tpos\nbad"\tneg\nbad\tneg\n', "a.tsv", {},
        [('"good', "pos"), GOOD[1], ('so "so', "pos"), ('bad"', "neg"), GOOD[1]],
    ),
    "quote that is never closed in a tsv": ('text\tlabel\n"good\tpos\nbad\tneg\n', "a.tsv", {}, [('"good', "pos"), GOOD[1]]),
    "one class in two spellings": ("text,label\na,0\nb,0.0\nc,1.0\n", "a.csv", {}, [("a", "0"), ("b", "0"), ("c", "1")]),
    "leading zeros are text": ("text,label\na,1\nb,01\nc,001\n", "a.csv", {}, [("a", "1"), ("b", "01"), ("c", "001")]),
    "words that pandas takes for nothing": ("text,label\nNA,nan\nnull,None\n", "a.csv", {}, [("NA", "nan"), ("null", "None")]),
    "json lines": ('{"text": "good", "label": "pos"}\n\n{"label": "neg", "text": "bad"}\n', "a.jsonl", {}, GOOD),
    "ndjson": ('{"text": "good", "label": "pos"}\r\n{"text": "bad", "label": "neg"}', "a.ndjson", {}, GOOD),
    "an array": ('[{"text": "good", "label": "pos"},\n {"text": "bad", "label": "neg"}]', "a.json", {}, GOOD),
    "an array that is called jsonl": ('[{"text": "good", "label": "pos"}, {"text": "bad", "label": "neg"}]', "a.jsonl", {}, GOOD),
    "columns": ('{"text": {"0": "good", "1": "bad"}, "label": {"0": "pos", "1": "neg"}}', "a.json", {}, GOOD),
    "an array in an object": ('{\n "data": [{"text": "good", "label": "pos"}, {"text": "bad", "label": "neg"}]}', "a.json", {}, GOOD),
    "lines that are called json": ('{"text": "good", "label": "pos"}\n{"text": "bad", "label": "neg"}\n', "a.json", {}, GOOD),
    "missing keys": ('{"text": "a"}\n{"text": "b", "label": null}\n{"text": "c", "label": 1.0}', "a.jsonl", {}, [("a", None), ("b", None), ("c", "1")]),
    "gzip": (gzip.compress(b"text,label\ngood,pos\nbad,neg\n"), "a.csv.gz", {}, GOOD),
    "latin-1": ("text,label\nété,pos\n".encode("latin-1"), "a.csv", {"encoding": "latin-1"}, [("été", "pos")]),
    "gb18030": ("text,label\n很好,pos\n".encode("gb18030"), "a.csv", {"encoding": "gb18030"}, [("很好", "pos")]),
    "utf-16": ("text,label\ngood,pos\nbad,neg\n".encode("utf-16"), "a.csv", {"encoding": "utf-16"}, GOOD),
    "a pair": ("a,b,label\nx,y,pos\n", "a.csv", {"text_column": ["a", "b"]}, [(f"x{PAIR}y", "pos")]),
    "a template": ("a,b,label\nx,y,pos\n", "a.csv", {"text_column": "{b}: {a}!"}, [("y: x!", "pos")]),
    "a map": (
        "text,label\na,0\nb,1.0\nc,2\n", "a.csv", {"label_map": {0: "negative", "1": "positive", 2: None}},
        [("a", "negative"), ("b", "positive"), ("c", None)],
    ),
    "a column a label": (
        "text,toxic,insult\na,1,0\nb,0,0\nc,,\nd,true,1.0\n", "a.csv", {"label_column": ["toxic", "insult"]},
        [("a", ["toxic"]), ("b", []), ("c", None), ("d", ["toxic", "insult"])],
    ),
    "lists of labels": ('{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": []}', "a.jsonl", {"multi_label": True}, [("a", ["x", "y"]), ("b", [])]),
    "multi-hot": (
        '{"text": "a", "label": [1, 0, 1]}\n{"text": "b", "label": [0, 0, 0]}', "a.jsonl",
        {"multi_label": True, "label_names": ["x", "y", "z"]}, [("a", ["x", "z"]), ("b", [])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_it_is_read_right(tmp_path, case):
    content, name, options, expected = RIGHT[case]
    assert rows(tmp_path, content, name, **options) == expected


def csv_of(*lines: str) -> str:
    return "\n".join(["text,label", *lines]) + "\n"


REFUSED = {
    "extra field": (csv_of("fine,pos", "good film, indeed,pos"), "a.csv", {}, "line 3 has 3 fields, and the header has 2"),
    "extra field of all rows": (csv_of("good, indeed,pos"), "a.csv", {}, "line 2 has 3 fields"),
    "extra field under a trailing comma": ("text,label,\ngood, indeed,pos\n", "a.csv", {}, "line 2 has 3 fields"),
    "lacking field": (csv_of("fine,pos", "good"), "a.csv", {}, "line 3 has 1 field, and the header has 2"),
    "backslash": (csv_of(r'"he said \"x\", ok",neg'), "a.csv", {}, r"line 2 has a quote .* twice .*not with a backslash"),
    "backslash after many": (csv_of(*ROWS, r'"he said \"x\", ok",neg'), "a.csv", {}, "line 62 has a quote"),
    "quote that swallows": (
        csv_of('"a, b",pos', '"good,pos', "bad,neg", 'the big",neg'), "a.csv", {},
        "line 3 has a quote .* swallows the rows down to line 5",
    ),
    "open quote": (csv_of('"a, b",pos', '"good,pos', "bad,neg"), "a.csv", {}, r'line 3 has a quote \("\) that nothing closes'),
    "two columns of a name": ("text,label,text\na,b,c\n", "a.csv", {}, "has 2 columns named 'text'"),
    "case": ("Text,label\na,b\n", "a.csv", {}, "which has: Text, label .*; did you mean 'Text'"),
    "no header": ("good,pos\nbad,neg\n", "a.csv", {}, r"which has: good, pos \(the header, its first line\)"),
    "another separator": ("text;label\na;b\n", "a.csv", {}, "set \"datamodule.separator=';'\""),
    "a long separator": ("text;label\na;b\n", "a.csv", {"separator": ";;"}, "must be one character"),
    "broken line": ('{"text": "a"}\n' * 60 + '{"text": }\n', "a.jsonl", {}, "cannot be read as jsonl: line 61: Expecting value"),
    "null": ('{"text": "a"}\nnull\n', "a.jsonl", {}, "line 2 is null, and must be an object"),
    "a number in an array": ('[{"text": "a"}, 5]', "a.json", {}, "row 2 is 5, and must be an object"),
    "a name twice": ('{"text": "a", "text": "b"}', "a.jsonl", {}, "line 1: it has a name twice"),
    "depth": ("[" * 100_000, "a.json", {}, "cannot be read as json"),
    "columns of two lengths": ('{"text": ["a"], "label": ["b", "c"]}', "a.json", {}, "columns of one length"),
    "half a character": ('{"text": "a", "label": "x"}\n{"text": "\\ud800", "label": "y"}', "a.jsonl", {}, "the text of line 2 has half a character"),
    "half a character in a label": ('{"text": "a", "label": "\\ud800"}', "a.jsonl", {}, "a label with half a character"),
    "a list as text": ('{"text": ["a"], "label": "x"}', "a.jsonl", {}, "line 1 has a list in the column 'text'"),
    "a mapping as text": ('{"text": {"en": "a"}, "label": "x"}', "a.jsonl", {}, "line 1 has a mapping in the column 'text'"),
    "a list as label": ('{"text": "a", "label": ["x"]}', "a.jsonl", {}, "line 1 has a list in the column 'label'.*multi_label=true"),
    "a printed list": (csv_of("a,['neg']"), "a.csv", {}, "line 2 has .'neg'., which looks like a list"),
    "printed bytes": (csv_of("a,b'neg'"), "a.csv", {}, "line 2 has b'neg', which looks like"),
    "multi-hot without names": ('{"text": "a", "label": [1, 0, 1]}', "a.jsonl", {"multi_label": True}, "set datamodule.label_names to the names of these 3"),
    "a third value in a label column": ("text,x,y\na,1,2\n", "a.csv", {"label_column": ["x", "y"]}, "line 2 has '2' in the column 'y', which must have 0 or 1"),
    "half of the label columns": ("text,x,y\na,1,\n", "a.csv", {"label_column": ["x", "y"]}, "line 2 has nothing in the column 'y'"),
    "a label that the map lacks": (csv_of("a,0", "b,7"), "a.csv", {"label_map": {0: "x"}}, "line 3 has the label '7', which datamodule.label_map does not name"),
    "three columns": ("a,b,c\n1,2,3\n", "a.csv", {"text_column": ["a", "b", "c"]}, "two columns for a pair, or a template"),
    "a template's column": ("a,label\n1,2\n", "a.csv", {"text_column": "{a} {b}"}, "text_column='b' is not in"),
    "a pair with an empty half": ("a,b,label\nx,,pos\n", "a.csv", {"text_column": ["a", "b"]}, "the text of line 2 is empty"),
    "latin-1": ("text,label\nétait là,pos\n".encode("latin-1"), "a.csv", {}, r"byte 0xe9 in line 2\).* set datamodule.encoding=latin-1"),
    "gb18030": ("text,label\n我们都很喜欢这部电影,pos\n".encode("gb18030"), "a.csv", {}, "set datamodule.encoding=gb18030"),
    "utf-16": ("text,label\ngood,pos\n".encode("utf-16"), "a.csv", {}, "set datamodule.encoding=utf-16$"),
    "utf-16 without a mark": ("text,label\ngood,pos\n".encode("utf-16-le"), "a.csv", {}, "set datamodule.encoding=utf-16-le"),
    "another encoding than asked": ("text,label\né,pos\n".encode("latin-1"), "a.csv", {"encoding": "ascii"}, "is not ascii"),
    "no encoding": (csv_of("a,b"), "a.csv", {"encoding": "klingon"}, "datamodule.encoding='klingon' cannot be used"),
    "no text encoding": (csv_of("a,b"), "a.csv", {"encoding": "base64"}, "datamodule.encoding='base64' cannot be used"),
    "renamed xlsx": (b"PK\x03\x04rest", "a.csv", {}, "it is an Excel file.*rename it to .xlsx"),
    "renamed parquet": (b"PAR1rest", "a.csv", {}, "it is a parquet file"),
    "renamed gzip": (gzip.compress(b"text,label\n"), "a.csv", {}, "compressed with gzip"),
    "no gzip": (b"text,label\n", "a.csv.gz", {}, "cannot be read as csv"),
    "torn gzip": (gzip.compress(b"text,label\n" * 99)[:-9], "a.csv.gz", {}, "cannot be read as csv"),
    "NUL": (csv_of("a,b", "c\0d,e"), "a.csv", {}, "has a NUL character in line 3"),
    "nothing": ("\n\n", "a.csv", {}, "cannot be read as csv: it is empty"),
    "header only": ("text,label\n", "a.csv", {}, "has no rows"),
    "names as YAML reads them": (csv_of("a,no"), "a.csv", {"label_names": [False, True]}, r"write labels in quotes: \['no','yes'\]"),
    "mapped names as YAML reads them": (csv_of("a,0"), "a.csv", {"label_map": {0: False}}, r"write names in quotes"),
    "a name twice in label_names": (csv_of("a,1"), "a.csv", {"label_names": ["1", "1.0"]}, "must be different"),
    "a word as label_names": (csv_of("a,1"), "a.csv", {"label_names": "1"}, "must be a list"),
    "a word as label_map": (csv_of("a,1"), "a.csv", {"label_map": "1"}, "must give each label a name"),
    "overlap": (csv_of("a,1"), "a.csv", {"overlap": "maybe"}, "must be refuse, drop or allow"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_sentence(tmp_path, case):
    content, name, options, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as told:
        corpus(tmp_path, content, name, **options).check()
    assert "\n" not in str(told.value) and len(str(told.value)) < 700


def test_cells_of_all_types_are_read_alike_in_every_format(tmp_path):
    values = {
        "text": ["a", "b", "c", "d"],
        "whole": [1, 0, 1, 0],
        "real": [1.0, 0.0, np.nan, 1.0],
        "truth": [True, False, True, False],
        "word": ["x", None, "y", " x "],
    }
    frame = pd.DataFrame(values)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "a.json")
    frame.to_parquet(tmp_path / "a.parquet")
    names = ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet"]
    if importlib.util.find_spec("openpyxl"):
        frame.to_excel(tmp_path / "a.xlsx", index=False)
        names.append("a.xlsx")
    for column in ("whole", "real", "truth", "word"):
        found = [
            Table(path=str(tmp_path / name), tokenizer=TOKENIZER, label_column=column).corpus().labels for name in names
        ]
        assert all(one == found[0] for one in found), (column, found)
    assert found[0] == ["x", None, "y", "x"]


def test_parquet_has_bytes_and_objects(tmp_path):
    frame = pd.DataFrame({"text": [b"caf\xc3\xa9", b"b"], "label": [Decimal("1.0"), Decimal("2.5")]})
    frame.to_parquet(tmp_path / "a.parquet")
    found = Table(path=str(tmp_path / "a.parquet"), tokenizer=TOKENIZER).corpus()
    assert (found.values, found.labels) == (["café", "b"], ["1", "2.5"])
    pd.DataFrame({"text": ["a", b"\xff".decode("latin-1")], "label": [b"\xff", b"a"]}).to_parquet(
        tmp_path / "a.parquet"
    )
    with pytest.raises(UserError, match="row 1 has bytes that are not UTF-8 in the column 'label'"):
        Table(path=str(tmp_path / "a.parquet"), tokenizer=TOKENIZER).corpus()


def test_excel_needs_a_package_or_is_read_with_the_rows_that_it_shows(tmp_path, monkeypatch):
    if importlib.util.find_spec("openpyxl"):
        pd.DataFrame({"text": ["a", None, "b"], "label": [1, None, 2]}).to_excel(tmp_path / "a.xlsx", index=False)
        found = Table(path=str(tmp_path / "a.xlsx"), tokenizer=TOKENIZER).corpus()
        assert list(zip(found.values, found.labels, strict=True)) == [("a", "1"), ("b", "2")]
        assert found.row_name(1) == "row 4" and found.notices == ["1 empty row was left out"]
        (tmp_path / "b.xlsx").write_bytes(b"PK\x03\x04junk")
        with pytest.raises(UserError, match="cannot be read as xlsx: it is no Excel workbook"):
            read(tmp_path / "b.xlsx")

    def lacking(*_, **__):
        raise ImportError("openpyxl")

    monkeypatch.setattr(pd, "read_excel", lacking)
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"needs openpyxl: pip install 'kdlab\[excel\]'"):
        read(tmp_path / "a.xlsx")


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
FROM = st.one_of(CELL, st.text('ab ,;\t\n\r"\\', max_size=8))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(FROM, st.sampled_from(["pos", "neg", ""])), min_size=1, max_size=6), st.sampled_from(",;\t"))
def test_what_pandas_and_csv_write_comes_back_or_is_refused(tmp_path, written, separator):
    kind = "tsv" if separator == "\t" else "csv"
    frame = pd.DataFrame(written, columns=["text", "label"])
    expected = [(text.strip(), label) for text, label in written if text.strip() or label]
    plain = io.StringIO(newline="")
    writer = csv.writer(plain, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *written])
    contents = [frame.to_csv(index=False, sep=separator), plain.getvalue()]
    for content in contents:
        (tmp_path / f"a.{kind}").write_bytes(content.encode())
        try:
            found = read(tmp_path / f"a.{kind}", separator=separator).without_empty()
        except UserError as refused:
            assert "swallows the rows" in str(refused) and any("\n" in text for text, _ in written)
            continue
        texts, labels = (found.column(name, "x") for name in ("text", "label"))
        assert [(text.strip(), label) for text, label in zip(texts, labels, strict=True)] == expected


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(["text", "label"]), CELL, min_size=1), min_size=1, max_size=5))
def test_what_json_writes_comes_back(tmp_path, written):
    contents = {
        "a.jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in written),
        "a.json": json.dumps(written, indent=1),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content.encode())
        found = read(tmp_path / name)
        for column in found.names:
            assert found.column(column, "x") == [row.get(column) for row in written]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet", "csv.gz"]))
def test_no_bytes_end_in_a_traceback(tmp_path, content, kind):
    (tmp_path / f"a.{kind}").write_bytes(content)
    try:
        read(tmp_path / f"a.{kind}")
    except UserError as refused:
        assert "\n" not in str(refused)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("l'été était déjà très chaud à Besançon", "latin-1"),
        ("It’s a “great” film — really", "cp1252"),
        ("这部电影真的很好看，我们都喜欢它", "gb18030"),
        ("這部電影真的很好看，我們都喜歡它", "big5"),
        ("この映画はとても面白かったです", "shift_jis"),
        ("이 영화는 정말 재미있었습니다", "euc_kr"),
        ("это очень хороший фильм, мне понравилось", "cp1251"),
        ("good film, я рад", "utf-16"),
    ],
)
def test_the_encoding_is_guessed_and_named(text, encoding):
    content = (text + "\n").encode(encoding) * 3
    assert guess(content) == encoding
    with pytest.raises(UserError, match=f"set datamodule.encoding={encoding}"):
        decode(content, None, "a.csv")
    assert decode(content[: len(content) // 3], encoding, "a.csv") == text + "\n"


def test_a_long_cell_is_cut_and_named(tmp_path):
    found = corpus(tmp_path, csv_of("a,x", "b" * 3_000_000 + ",y"))
    found.check()
    assert list(map(len, found.values)) == [1, 1_000_000]
    assert found.notices == ["1 text is cut after 1,000,000 characters, first: line 3 with 3,000,000"]


def test_the_order_of_labels_is_that_of_their_numbers_and_then_their_text(tmp_path):
    assert corpus(tmp_path, csv_of("a,1", "b,01", "c,001", "d,0", "e,10", "f,9")).order() == [
        "0", "001", "01", "1", "9", "10"
    ]  # fmt: skip
