"""Files of any length: what is read, what is refused, and that a csv comes out as it went in."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_datamodule_table import REFUSED, RIGHT

from kdlab.datamodule.chunk import Fields, Records
from kdlab.datamodule.frame import read
from kdlab.datamodule.sink import JsonSink, TextSink, quoted
from kdlab.datamodule.source import Source
from kdlab.datamodule.stream import Piped, Stream, stream
from kdlab.error import UserError


def opened(path: Path, encoding: str | None = None, separator: str | None = None) -> Stream:
    return stream(Source(path, str(path), encoding, separator, prefix=""))


def rows(path: Path, size: int = 2, skip: int = 0, **how: str) -> list:
    found = opened(path, **how)
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
            chunks = opened(tmp_path / f"a.{kind}").chunks(3, skip)
            assert [text for part in chunks for text in part.column(0)] == [row["text"] for row in values[skip:]]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "text,label\ngood film, indeed,pos\n", "line 2 has 3 fields, and the header has 2"),
        ("a.csv", "text,label\na,b\nc\n", "line 3 has 1 field, and"),
        ("a.csv", "", "cannot be read as csv: it is empty"),
        ("a.csv", b"text,label\n\xe9t\xe9,b\n", "is not UTF-8 (byte 0xe9 in line 2); it seems to be latin-1: set enc"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', "cannot be read as jsonl: line 3: Expecting value"),
        ("a.jsonl", "null\n", "line 1 is null, and must be an object"),
        ("a.parquet", "text", "cannot be read as parquet"),
        ("a.xml", "text", "path: {} ends in '.xml', and can be .csv, .tsv, .jsonl, .ndjson, .json, .parquet or .xlsx"),
        ("b.csv", None, "path: there is no file"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_at_once(name, content, told, tmp_path):
    if content is not None:
        written(tmp_path / name, content)
    with pytest.raises(UserError) as refused:
        opened(tmp_path / name)
    assert told.format(tmp_path / name) in str(refused.value)


@pytest.mark.parametrize("case", [*RIGHT, *REFUSED])
def test_a_file_is_read_by_chunks_as_it_is_read_whole(case, tmp_path):
    content, name, options, _ = (RIGHT | REFUSED)[case]
    path = written(tmp_path / name, content)
    same(path, options.get("encoding"), options.get("separator"))


def same(path: Path, encoding: str | None = None, separator: str | None = None) -> None:
    """Cell by cell, or refused in the same words."""

    def outcome(do: Callable[[], object]) -> object:
        try:
            return do()
        except UserError as refused:
            return str(refused)

    def whole() -> object:
        frame = read(path, str(path), encoding, separator)
        columns = [[None if value == "" else value for value in column] for column in frame.columns]
        columns = [[value.rstrip("\r\n") if isinstance(value, str) else value for value in one] for one in columns]
        return list(frame.names), frame.unit, list(frame.lines), columns, frame.notices

    def parts() -> object:
        found = stream(Source(path, str(path), encoding, separator))
        every = list(found.chunks(2))
        columns: list[list] = [[] for _ in found.names]
        for part in every:
            for number, column in enumerate(columns):
                column += [None if value == "" else value for value in part.column(number)]
        columns = [[value.rstrip("\r\n") if isinstance(value, str) else value for value in one] for one in columns]
        lines = [line for part in every for line in part.lines]
        assert found.total == len(lines)
        return list(found.names), found.unit, lines, columns, list(found.notices)

    assert outcome(parts) == outcome(whole)


PIECES = [
    "a", "b,c", '"b,c"', 'say ""so""', '"', "\n", "\r\n", "\r", ",", "\t", "{", "}", '{"text": "a"}',
    '{"text": ["b"]}',
    "[", "]", " ", "é", "\ufeff", "text,label\n", "good,pos\n",
]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.json", "a.csv.gz"]),
)
def test_whatever_is_in_a_file_is_read_by_chunks_as_it_is_read_whole(tmp_path, text, name):
    content = text.encode()
    same(written(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet", "csv.gz"]))
def test_no_bytes_end_in_a_traceback(tmp_path, content, kind):
    with contextlib.suppress(UserError):
        list(opened(written(tmp_path / f"a.{kind}", content)).chunks(2))


def test_a_sheet_and_a_compressed_parquet_are_read_too(tmp_path):
    frame = pd.DataFrame({"text": ["a", None, "b"], "n": [1, None, 2]})
    frame.to_parquet(tmp_path / "a.parquet")
    written(tmp_path / "b.parquet.gz", gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert [row["text"] for row in rows(tmp_path / "b.parquet.gz")] == ["a", None, "b"]
    pytest.importorskip("openpyxl")
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    assert rows(tmp_path / "a.xlsx") == [{"text": "a", "n": 1}, {"text": "b", "n": 2}]
    assert [line for part in opened(tmp_path / "a.xlsx").chunks() for line in part.lines] == [2, 4]


def test_types_for_a_parquet_file_are_those_of_all_rows(tmp_path):
    lines = ['{"a": 1, "late": null}', '{"a": 2.5}', '{"a": null, "late": {"x": [1]}, "none": null}']
    found = opened(written(tmp_path / "a.jsonl", "\n".join(lines)))
    assert [str(one.type) for one in found.schema()] == ["double", "struct<x: list<item: int64>>", "string"]
    found = opened(written(tmp_path / "b.jsonl", '{"a": 1}\n{"a": "x"}'))
    with pytest.raises(UserError, match="a column has values of several types"):
        found.schema()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ('["b"]', "line 3 has a list in the column 'text', which must have a text"),
        ('{"b": 1}', "line 3 has a mapping in"),
        ('"\\ud83d"', "line 3 has half a character (a lone surrogate) in"),
    ],
)
def test_a_row_without_a_proper_text_is_named_before_any_work(value, told, tmp_path):
    found = opened(written(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": 1}\n{"text": %s}\n' % value))  # noqa: UP031
    with pytest.raises(UserError) as refused:
        found.check([0])
    assert told in str(refused.value)


def test_another_encoding_is_read_where_it_is_named(tmp_path):
    assert rows(written(tmp_path / "a.csv", "text\nété\n".encode("latin-1")), encoding="latin-1") == [["été"]]


def test_columns_of_a_jsonl_are_those_of_all_its_rows(tmp_path):
    found = opened(written(tmp_path / "a.jsonl", '{"text": "a", "x": [1]}\n{"text": null, "y": true}\n'))
    assert found.names == ["text", "x", "y"]
    assert [cells for part in found.chunks(5) for cells in part.cells()] == [["a", "[1]", ""], ["", "", "true"]]


def test_a_pipe_is_read_as_it_comes():
    arriving = iter([b"ein Tex", "t\nñ".encode()[:-1], "ñ".encode()[-1:] + b"\r\n\nlast", b""])
    parts = [part.column(0) for part in Piped(lambda: next(arriving), ["text"]).chunks(10)]
    assert parts == [["ein Text"], ["ñ", ""], ["last"]]


def test_a_pipe_has_both_texts_of_a_pair_with_a_tab_between():
    arriving = iter([b"a\tb\nc", b" \td\n", b"alone\n", b""])
    found = Piped(lambda: next(arriving), ["title", "body"]).chunks()
    assert [next(found).rows, next(found).rows] == [[["a", "b"]], [["c ", "d"]]]
    with pytest.raises(UserError, match=r"line 3 has 1 text, and the run reads 2 \(title, body\): put '.t' between"):
        next(found)


def test_a_pipe_in_another_encoding_is_refused_or_read_where_it_is_named():
    def arriving(encoding: str | None) -> list[list[str]]:
        blocks = iter(["good\nété\n".encode("latin-1"), b""])
        return [row for part in Piped(lambda: next(blocks), ["text"], encoding=encoding).chunks() for row in part.rows]

    assert arriving("latin-1") == [["good"], ["été"]]
    with pytest.raises(UserError, match="standard input is not UTF-8 in line 1 or soon after: set encoding"):
        arriving(None)
    with pytest.raises(UserError, match="encoding='klingon' cannot be used"):
        arriving("klingon")


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
    TextSink(file, ".csv", ";").write(Fields(["a", "b"], range(len(values)), values), {"new": ["x, y"] * len(values)})
    found = list(csv.reader(io.StringIO(file.getvalue().decode(), newline=""), strict=True))
    assert found == [["a", "b", "new"], *[[*row, "x, y"] for row in values]]


def test_lists_and_missing_values_in_a_csv():
    file = io.BytesIO()
    out = TextSink(file, ".tsv", ";")
    out.write(Fields(["a"], [1, 2], [["1"], ["2"]]), {"labels": [["x", "y"], None], "yes": [True, None]})
    assert file.getvalue() == b"a\tlabels\tyes\n1\tx;y\tTrue\n2\t\t\n"


def test_half_a_pair_of_surrogates_in_a_jsonl_stays_what_it_is():
    file = io.BytesIO()
    JsonSink(file).write(Records(["text"], [1], [json.loads('{"text": "\\ud83d ü"}')], ["text"]), {})
    assert json.loads(file.getvalue()) == {"text": "\ud83d ü"}


def test_fields_are_quoted_only_where_they_have_to_be():
    assert [quoted(text, ",") for text in ("a", " a ", "a,b", 'a"', "a\rb", "=1+1")] == [
        "a", " a ", '"a,b"', '"a"""', '"a\rb"', "=1+1",
    ]  # fmt: skip
