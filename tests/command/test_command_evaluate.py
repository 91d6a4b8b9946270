"""What `kdlab evaluate` prints, of what, and what it can do without."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from fork import end, start

ODD = ("[/neg]", "[bold]x", "a\x1b]0;owned\x07\x1b[31mb")


@pytest.fixture(scope="module")
def odd(tiny, tmp_path_factory) -> Path:
    """A folder with a run whose labels look like markup, or steer a terminal."""
    folder = tmp_path_factory.mktemp("odd")
    rows = [[f"{'abc'[number % 3]} film {number}", ODD[number % 3]] for number in range(60)]
    with (folder / "odd.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *rows])
    words = [word for word in tiny["finetune"] if not word.startswith("datamodule.path")]
    code, said = end(start(["finetune", *words, "datamodule.path=odd.csv", "logger=none"], folder), folder)
    assert code == 0, said
    return folder


def test_labels_are_printed_as_they_are_and_cannot_steer_a_terminal(odd, kdlab, monkeypatch):
    monkeypatch.chdir(odd)
    (run,) = (odd / "outputs" / "finetune").iterdir()
    code, out, err = kdlab("evaluate", f"run={run.name}", "repeats=1")
    assert code == 0, err
    (written,) = (odd / "outputs" / "evaluate").glob("*/report.txt")
    for text in (out, written.read_text()):
        assert "[/neg]" in text and "[bold]x" in text
        assert "predicted [/neg]" in " ".join(text.split())
        assert not set(text) & set("\x1b\x07")


def test_an_error_that_quotes_a_file_cannot_steer_a_terminal(odd, kdlab, monkeypatch):
    monkeypatch.chdir(odd)
    (run,) = (odd / "outputs" / "finetune").iterdir()
    names = "datamodule.label_names=[a,b]"
    code, _, err = kdlab("evaluate", f"run={run.name}", "datamodule=table", "datamodule.path=odd.csv", names)
    assert code == 2
    assert "\x1b" not in err and "[/neg]" in err
