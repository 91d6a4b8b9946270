"""Files of any length: what is read, what is refused, and that a csv comes out as it went in."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.datamodule.sink import JsonSink, TextSink, quoted
from kdlab.datamodule.stream import Fields, Piped, stream
from kdlab.error import UserError


def rows(path: Path, size: int = 2, skip: int = 0, **how: str) -> list:
    found = stream(path, **how)
    parts = list(found.chunks(size, skip))
    assert all(0 < len(part) <= size for part in parts)
    listed = [row for part in parts for row in (part.rows if isinstance(part, Fields) else part.records())]
    assert found.total == len(listed) + skip
    return listed


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text,label\na,b\nc,d\n", [["a", "b"], ["c", "d"]]),
        ("\ufefftext,label\r\na,b\r\n\r\nc,d", [["a", "b"], ["c", "d"]]),
        ('text,label\n"a, ""b""\nc",d\n', [['a, "b"\nc', "d"]]),
        ("text,label\na\rb,c\n", [["a\rb", "c"]]),
        ('text,label\n"a\rb",c\r\n', [["a\rb", "c"]]),
        ("text,label,\na,b,\nc,d,\n", [["a", "b"], ["c", "d"]]),
        ('text,label\n5" screen,b\nthe 3" one,d\n', [['5" screen', "b"], ['the 3" one', "d"]]),
        ('text,label\n"a" and b,c\n', [['"a" and b', "c"]]),  # quotes that cannot enclose are characters
        ("text,label\n,\n", [["", ""]]),
    ],
)
def test_a_csv_is_read_without_moving_a_field(content, expected, tmp_path):
    assert rows(written(tmp_path / "a.csv", content)) == expected


def test_rows_can_be_skipped_in_every_kind_of_file(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    values = [{"text": f"t{number}"} for number in range(7)]
    written(tmp_path / "a.csv", "text\n" + "".join(f"{row['text']}\n" for row in values))
    written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in values))
    parquet.write_table(pa.Table.from_pylist(values), tmp_path / "a.parquet")
    for kind in ("csv", "jsonl", "parquet"):
        for skip in range(8):
            chunks = stream(tmp_path / f"a.{kind}").chunks(3, skip)
            assert [text for part in chunks for text in part.column("text")] == [row["text"] for row in values[skip:]]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "text,label\ngood film, indeed,pos\n", "row 1 (line 2) has 3 fields, and the header has 2"),
        ("a.csv", "text,label\na,b\nc\n", "row 2 (line 3) has 1 fields"),
        ("a.csv", "", "is empty: it has no header"),
        ("a.csv", "text,text\na,b\n", "has two columns named 'text'"),
        ("a.csv", b"text,label\n\xe9t\xe9,b\n", "is not utf-8 (byte 0xe9): set encoding="),
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', "line 3 is no JSON"),
        ("a.jsonl", "null\n", "line 1 is no JSON object"),
        ("a.jsonl", "\n", "is empty"),
        ("a.parquet", "text", "cannot be read as parquet"),
        ("a.xml", "text", "ends in '.xml', and can be .csv, .tsv, .jsonl, .ndjson or .parquet"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(name, content, told, tmp_path):
    with pytest.raises(UserError) as refused:
        stream(written(tmp_path / name, content))
    assert told in str(refused.value)


def test_another_encoding_is_read_where_it_is_named(tmp_path):
    assert rows(written(tmp_path / "a.csv", "text\nété\n".encode("latin-1")), encoding="latin-1") == [["été"]]


def test_columns_of_a_jsonl_are_those_of_all_its_rows(tmp_path):
    found = stream(written(tmp_path / "a.jsonl", '{"text": "a", "x": [1]}\n{"text": null, "y": true}\n'))
    assert found.columns == ["text", "x", "y"]
    assert [cells for part in found.chunks(5) for cells in part.cells()] == [["a", "[1]", ""], ["", "", "true"]]


def test_a_pipe_is_read_as_it_comes():
    arriving = iter([b"ein Tex", "t\nñ".encode()[:-1], "ñ".encode()[-1:] + b"\r\n\nlast", b""])
    parts = [part.column("text") for part in Piped(lambda: next(arriving)).chunks(10)]
    assert parts == [["ein Text"], ["ñ", ""], ["last"]]


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
            min_size=2,
            max_size=2,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_a_csv_holds_comes_out_of_it_again(values):
    file = io.BytesIO()
    TextSink(file, ".csv", ";").write(Fields(["a", "b"], values), {"new": ["x, y"] * len(values)})
    found = list(csv.reader(io.StringIO(file.getvalue().decode(), newline=""), strict=True))
    assert found == [["a", "b", "new"], *[[*row, "x, y"] for row in values]]


def test_lists_and_missing_values_in_a_csv():
    file = io.BytesIO()
    out = TextSink(file, ".tsv", ";")
    out.write(Fields(["a"], [["1"], ["2"]]), {"labels": [["x", "y"], None], "yes": [True, None]})
    assert file.getvalue() == b"a\tlabels\tyes\n1\tx;y\tTrue\n2\t\t\n"


def test_half_a_pair_of_surrogates_in_a_jsonl_stays_what_it_is():
    from kdlab.datamodule.stream import Records

    file = io.BytesIO()
    JsonSink(file).write(Records(["text"], [json.loads('{"text": "\\ud83d ü"}')]), {})
    assert json.loads(file.getvalue()) == {"text": "\ud83d ü"}


def test_fields_are_quoted_only_where_they_have_to_be():
    assert [quoted(text, ",") for text in ("a", " a ", "a,b", 'a"', "a\rb", "=1+1")] == [
        "a", " a ", '"a,b"', '"a"""', '"a\rb"', "=1+1",
    ]  # fmt: skip
