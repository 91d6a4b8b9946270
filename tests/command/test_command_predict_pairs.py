"""Predictions on pairs of texts with any number of labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fork import end, start
from rows_file import read, run_of, write

from kdlab.command.predict import load


@pytest.fixture(scope="module")
def several(tmp_path_factory, tiny) -> Path:
    """A folder with a run on pairs of texts, any number of labels a row."""
    folder = tmp_path_factory.mktemp("several")
    rows = [
        {"title": f"film {n}", "body": ("good", "bad", "long")[n % 3], "label": ("a;b", "", "b")[n % 3]}
        for n in range(60)
    ]
    write(folder / "pairs.csv", rows)
    words = [word for word in tiny["finetune"] if not word.startswith("datamodule.path")]
    words += ["datamodule.path=pairs.csv", "datamodule.text_column=[title,body]", "datamodule.multi_label=true"]
    code, said = end(start(["finetune", *words, "logger=none"], folder), folder)
    assert code == 0, said
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_pairs_and_any_number_of_labels(several, kind, tmp_path, kdlab, monkeypatch):
    monkeypatch.chdir(several)
    run = run_of(several, "finetune")
    code, _, err = kdlab("predict", f"run={run}", "path=pairs.csv", f"file={tmp_path / 'o'}.{kind}")
    assert code == 0, err
    new = ["predicted", "predicted_a", "predicted_b", "probability_a", "probability_b"]
    rows = read(tmp_path / f"o.{kind}")
    assert list(rows[0]) == ["title", "body", "label", *new]
    model = load(run)
    texts = [f"{row['title']}\x1f{row['body']}" for row in rows]
    for row, expected in zip(rows, model.predict(texts), strict=True):
        assert row["predicted"] == (";".join(expected.label) if kind == "csv" else expected.label)
        for label in ("a", "b"):
            assert str(row[f"predicted_{label}"]) == str(label in expected.label)
            assert float(row[f"probability_{label}"]) == pytest.approx(expected.probabilities[label], abs=1e-5)
            assert (label in expected.label) == (expected.probabilities[label] > 0.5)


@pytest.mark.slow
def test_pairs_come_from_standard_input_with_a_tab_between(several):
    code = "import sys; from kdlab.__main__ import main; sys.argv[0] = 'kdlab'; main()"
    words = [sys.executable, "-c", code, "predict", f"run={run_of(several, 'finetune')}", "path=-"]
    (several / "two.csv").write_text("title,body\nfilm 1,good\nfilm 2,bad\n")
    asked = subprocess.run([*words[:-1], "path=two.csv"], cwd=several, capture_output=True, check=True)
    piped = subprocess.run(words, input=b"film 1\tgood\nfilm 2\tbad\n", cwd=several, capture_output=True, check=True)
    assert piped.stdout == asked.stdout and piped.stdout.startswith(b"title,body,predicted,")
    torn = subprocess.run(words, input=b"film 1\tgood\nfilm 2\n", cwd=several, capture_output=True)
    assert torn.returncode == 2
    assert b"error: standard input: line 2 has 1 text, and the run reads 2 (title, body)" in torn.stderr
