"""`kdlab predict`: what it writes, that it is what `kdlab evaluate` measures, and how it goes on."""

from __future__ import annotations

import csv
import gc
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
from rows_file import read, run_of, write

from kdlab.artifact import work
from kdlab.artifact.work import Labelling
from kdlab.command import predict
from kdlab.command.predict import load
from kdlab.datamodule.prompts import Texts
from kdlab.datamodule.sink import sink
from kdlab.error import UserError

NEW = [
    {"id": "007", "text": "a good, warm film", "note": "=SUM(A1)", "label": "positive"},
    {"id": "1e3", "text": 'the "dull" plot\nand poor actors', "note": "  spaces ", "label": "negative"},
    {"id": "", "text": "bad\rweak", "note": "ü 电影 🙂", "label": "negative"},
    {"id": "x", "text": "", "note": "no text", "label": "negative"},
    {"id": "y", "text": "great " * 200, "note": "longer than the model reads", "label": "positive"},
]
ADDED = ["predicted", "probability_negative", "probability_positive"]


@pytest.fixture
def place(base, monkeypatch) -> Path:
    """The folder with a finished teacher and a finished student, to be read alone."""
    monkeypatch.chdir(base)
    return base


@pytest.mark.sampled(6, tried="all")
@pytest.mark.parametrize("source", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("target", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_columns_pass_through_from_every_kind_of_file_to_every_other(
    source, target, place, tmp_path, kdlab, monkeypatch
):
    monkeypatch.chdir(place)
    path, file = write(tmp_path / f"new{source}", NEW), tmp_path / "deep" / f"out{target}"
    code, out, err = kdlab("predict", f"run={run_of(place)}", f"path={path}", f"file={file}")
    assert (code, out) == (0, ""), err
    found = read(file)
    assert [{name: row[name] for name in NEW[0]} for row in found] == NEW
    assert [list(row) for row in found] == [[*NEW[0], *ADDED]] * len(NEW)
    for row in found:
        if row["text"]:
            numbers = [float(row[f"probability_{label}"]) for label in ("negative", "positive")]
            assert sum(numbers) == pytest.approx(1, abs=1e-5)
            assert row["predicted"] == ("negative", "positive")[numbers[1] > numbers[0]]
        else:
            assert all(row[name] in ("", None) for name in ADDED)
    assert f"predicted {len(NEW)} rows in" in err and "rows without a text, of which nothing is predicted: 1" in err
    assert sorted(one.name for one in file.parent.iterdir()) == [file.name]


def test_predict_gives_what_evaluate_counts(place, reviews, tmp_path, kdlab, monkeypatch):
    monkeypatch.chdir(place)
    run = run_of(place)
    out = f"outputs={tmp_path / 'outputs'}"
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "distill").symlink_to(place / "outputs" / "distill")
    reviews = shutil.copy(reviews, tmp_path / "other.csv")  # another data set is measured whole
    own = ["datamodule=table", f"datamodule.path={reviews}"]
    code, _, err = kdlab("evaluate", f"run={run}", "repeats=1", out, *own)
    assert code == 0, err
    (report,) = (tmp_path / "outputs" / "evaluate").glob("*/report.json")
    counted = json.loads(report.read_text())["models"]["distilled"]
    code, _, err = kdlab("predict", f"run={run}", f"path={reviews}", f"file={tmp_path / 'p.csv'}")
    assert code == 0, err
    rows = read(tmp_path / "p.csv")
    labels = ["negative", "positive"]
    confusion = [[sum((row["label"], row["predicted"]) == (a, b) for row in rows) for b in labels] for a in labels]
    assert counted["rows"] == len(rows) == 160
    assert confusion == counted["confusion"]


@pytest.mark.slow
def test_a_template_and_a_pair_are_read_as_in_training(place, tmp_path, kdlab, monkeypatch):
    monkeypatch.chdir(place)
    path = write(tmp_path / "in.csv", [{"a": "good", "b": "dull film", "text": "good dull film"}])
    found = {}
    for name, column in {"plain": "text", "template": "'{a} {b}'", "pair": "[a,b]"}.items():
        words = [f"run={run_of(place)}", f"path={path}", f"file={tmp_path / name}.csv", f"text_column={column}"]
        code, _, err = kdlab("predict", *words)
        assert code == 0, err
        found[name] = read(tmp_path / f"{name}.csv")[0]["probability_positive"]
    assert found["template"] == found["plain"] != found["pair"]


@pytest.mark.slow
def test_it_goes_on_where_it_was_interrupted(place, reviews, tmp_path, kdlab, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(work, "ROWS", 50)
    words = ["predict", f"run={run_of(place)}", f"path={reviews}"]
    assert kdlab(*words, f"file={tmp_path / 'whole.csv'}")[0] == 0
    real, calls = Labelling._of, []

    def stopped(self, chunk, first, meter):
        calls.append(len(chunk))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, chunk, first, meter)

    monkeypatch.setattr(Labelling, "_of", stopped)
    code, _, err = kdlab(*words, f"file={tmp_path / 'p.csv'}")
    assert code == 130
    assert err.splitlines()[-1] == "error: interrupted; the same command goes on after the rows that were written"
    assert not (tmp_path / "p.csv").exists()
    with (tmp_path / ".p.csv.part").open("a") as file:
        file.write("half a row, torn")
    code, _, err = kdlab(*words, f"file={tmp_path / 'p.csv'}")
    assert code == 0, err
    assert "going on after row 100, where it was interrupted" in err
    assert calls == [50, 50, 50, 50, 10]
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not list(tmp_path.glob(".p.csv*"))


@pytest.mark.slow
def test_every_file_that_a_run_is_trained_on_can_be_predicted(place, tmp_path, kdlab, monkeypatch):
    import gzip

    import pandas as pd

    monkeypatch.chdir(place)
    rows = [{"text": "a good, warm film", "n": 1}, {"text": None, "n": None}, {"text": 12.0, "n": 3}]
    lines = "text;n\na good, warm film;1\n;\n12.0;3\n"
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(lines.encode("utf-16")))
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    (tmp_path / "d.json").write_text(pd.DataFrame(rows, dtype=object).to_json())
    options = {"a.csv.gz": ["encoding=utf-16", "separator=';'"]}
    names = ["a.csv.gz", "b.json", "c.jsonl.gz", "d.json"]
    if importlib.util.find_spec("openpyxl"):
        pd.DataFrame([rows[0], rows[2]]).to_excel(tmp_path / "e.xlsx", index=False)
        names.append("e.xlsx")
    found = {}
    for name in names:
        words = [f"run={run_of(place)}", f"path={tmp_path / name}", f"file={tmp_path / 'out.csv'}", "overwrite=true"]
        code, _, err = kdlab("predict", *words, *options.get(name, []))
        assert code == 0, err
        found[name] = [row for row in read(tmp_path / "out.csv") if row["text"]]
        assert next((row["text"], row["n"]) for row in found[name]) == ("a good, warm film", "1")
        assert len(found[name]) == 2
    first = [row["probability_positive"] for row in found["b.json"]]
    assert all([row["probability_positive"] for row in found[name]][:1] == first[:1] for name in names)
    assert all(found[name][1]["probability_positive"] == first[1] for name in names if name != "a.csv.gz")


def test_a_row_that_cannot_be_read_is_named_before_any_is_predicted(place, tmp_path, kdlab, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"text": f"film {number}"}) for number in range(3000)]
    lines[2500] = json.dumps({"text": ["a", "list"]})
    (tmp_path / "new.jsonl").write_text("\n".join(lines))
    run = place / "outputs" / "distill" / run_of(place)
    code, out, err = kdlab("predict", f"run={run}", "path=new.jsonl", "file=out.csv")
    assert (code, out) == (2, "")
    assert err == ("error: new.jsonl: line 2501 has a list in the column 'text', which must have a text\n")
    assert [one.name for one in tmp_path.iterdir()] == ["new.jsonl"]


def test_columns_of_one_name_pass_through_a_csv_but_are_refused_elsewhere(place, tmp_path, kdlab, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.csv").write_text("note,text,note\na,good film,b\n")
    run = place / "outputs" / "distill" / run_of(place)
    assert kdlab("predict", f"run={run}", "path=new.csv", "file=out.csv")[0] == 0
    assert (tmp_path / "out.csv").read_text().startswith("note,text,note,predicted,")
    code, _, err = kdlab("predict", f"run={run}", "path=new.csv", "file=out.jsonl")
    assert code == 2 and "new.csv has two columns named 'note', which .jsonl cannot hold" in err


def test_another_input_is_not_gone_on_with(place, reviews, tmp_path):
    begun = predict.Part(tmp_path / "p.csv", {"stamp": 1})
    begun.path.write_text("three\nrows\nthere\n")
    begun.note(2)
    assert predict.Part(tmp_path / "p.csv", {"stamp": 1}).rows == 2
    assert predict.Part(tmp_path / "p.csv", {"stamp": 2}).rows == 0
    assert predict.Part(tmp_path / "p.csv", {"stamp": 1}, resumes=False).rows == 0


@pytest.mark.slow
def test_lines_of_standard_input_are_answered_on_standard_output(place):
    code = "import sys; from kdlab.__main__ import main; sys.argv[0] = 'kdlab'; main()"
    words = ["predict", f"run={run_of(place)}", "path=-"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip
    assert process.stdin and process.stdout
    process.stdin.write(b"a good film\n")
    process.stdin.flush()
    first = [process.stdout.readline(), process.stdout.readline()]  # while the pipe is open
    out, err = process.communicate("\nбольшой 🙂, film".encode(), timeout=60)
    assert process.returncode == 0, err
    rows = list(csv.DictReader((b"".join(first) + out).decode().splitlines()))
    assert [row["text"] for row in rows] == ["a good film", "", "большой 🙂, film"]
    assert [bool(row["predicted"]) for row in rows] == [True, False, True]


@pytest.mark.slow
def test_a_plain_transformers_folder_is_read_too(place, tmp_path, kdlab, monkeypatch):
    from transformers import pipeline

    monkeypatch.chdir(place)
    run = run_of(place)
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in (place / "outputs" / "distill" / run / "model").iterdir():
        if file.name != "labels.json":
            (plain / file.name).write_bytes(file.read_bytes())
    path = write(tmp_path / "new.csv", [row for row in NEW if row["text"] and len(row["text"]) < 100])
    for name in (run, str(plain)):
        code, _, err = kdlab("predict", f"run={name}", f"path={path}", f"file={tmp_path / 'o.jsonl'}", "overwrite=true")
        assert code == 0, err
        for row in read(tmp_path / "o.jsonl"):
            expected = pipeline("text-classification", model=str(plain), device="cpu")(row["text"])[0]
            assert row["predicted"] == expected["label"]
            assert row[f"probability_{row['predicted']}"] == pytest.approx(expected["score"], abs=1e-5)


def test_python_users_load_and_predict(place):
    model = load(f"outputs/distill/{run_of(place)}")
    one, two, none = model.predict(["a good film", "a bad one", " "])
    assert one.label in model.labels and set(two.probabilities) == {"negative", "positive"}
    assert one.probabilities[one.label] == max(one.probabilities.values())
    assert (none.label, none.probabilities) == (None, {})
    assert model.predict([]) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["path=nothing.csv"], "there is no file nothing.csv"),
        (
            ["path=new.csv", "text_column=texts"],
            "text_column='texts' is not in new.csv, which has: id, text, note, label",
        ),
        (["path=new.csv", "file=out.xml"], "file=out.xml ends in '.xml', and can be .csv, .tsv"),
        (["path=new.csv", "file=new.csv"], "is the file that is read: name another"),
        (["path=new.csv", "file=again.csv"], "file=again.csv is there already: name another, or set overwrite=true"),
        (["path=new.csv", "max_length=0"], "max_length is 0, but must be a whole number from 1 up, or null"),
        (["path=new.csv", "encoding=klingon"], "encoding='klingon' cannot be used"),
        (["path=again.csv"], "has a column named 'predicted', which predict writes: rename it"),
        (["path=empty.csv"], "empty.csv has no rows"),
        ([], "path has no value"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(words, told, place, tmp_path, kdlab, monkeypatch):
    write(tmp_path / "new.csv", NEW)
    write(tmp_path / "again.csv", [{"text": "a", "predicted": "b"}])
    (tmp_path / "empty.csv").write_text("text,label\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = kdlab("predict", f"run={place / 'outputs' / 'distill' / run_of(place)}", *words)
    assert (code, out) == (2, "")
    assert told in err and err.count("\n") == 1
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(place, tmp_path, monkeypatch):
    """Sixteen times the rows, and the peak of what Python allocates is about the same."""
    model = load(f"outputs/distill/{run_of(place)}")

    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.csv"
        path.write_text("text,blob\n" + "".join(f"film {row},{'x' * 20_000}\n" for row in range(rows)))
        monkeypatch.setattr(work, "ROWS", 32)
        gc.collect()
        tracemalloc.start()
        labelling = Labelling(model, predict.stream(predict.Source(path, "new.csv")), Texts("text", [0]))
        labelling.into(sink(tmp_path / "o.csv", ".csv", labelling.columns(), ";", lambda: None))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(64)  # what is imported and cached once
    assert peak(1024) - peak(64) < 0.05 * (1024 - 64) * 20_000


@pytest.mark.slow
def test_a_closed_pipe_ends_it_quietly(place):
    code = "import sys; from kdlab.__main__ import main; sys.argv[0] = 'kdlab'; main()"
    read_end, write_end = os.pipe()
    os.close(read_end)
    words = ["predict", f"run={run_of(place)}", "path=-"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], input=b"a good film\n", stdout=write_end, stderr=subprocess.PIPE
    )
    os.close(write_end)
    assert b"Traceback" not in done.stderr and b"Error" not in done.stderr


def test_a_language_model_without_its_tokenizer_is_refused(tmp_path, place):
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="has no tokenizer, which prompts are read with"):
        load(str(tmp_path))


@pytest.mark.parametrize(("seconds", "shown"), [(0.2, "12 rows in <1 s"), (19, "12 rows in 0:19")])
def test_a_time_below_a_second_is_not_zero(monkeypatch, seconds, shown):
    heard: list[str] = []
    monkeypatch.setattr("kdlab.artifact.work.announce", heard.append)
    labelling = Labelling(SimpleNamespace(numbers=False), None, Texts("text", []))
    labelling.done, labelling.began = 12, time.perf_counter() - seconds
    labelling.conclude(None)
    assert f"predicted {shown}: " in heard[0]
