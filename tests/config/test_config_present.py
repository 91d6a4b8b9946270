"""Simple mistakes: answered before torch is imported, and without leaving a run behind."""
# ruff: noqa: E501  a command line and what it is answered stand in one line each

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import sys
from kdlab.__main__ import main
sys.argv[0] = "kdlab"
try:
    main()
except SystemExit as end:
    print(end.code, "torch" in sys.modules)
"""
DATA = ["datamodule=table", "datamodule.path=mine.csv"]
MISTAKES = {
    "a share above 1": ("distill", [*DATA, "loss.alpha=1.5"], "loss.alpha is 1.5, but must be a number from 0 to 1"),
    "a temperature of 0": ("distill", [*DATA, "loss.temperature=0"], "loss.temperature is 0, but must be a number above"),
    "a weight below 0": ("distill", [*DATA, "loss.terms.kl.weight=-1"], "loss.terms.kl.weight is -1, but must be"),
    "no such teacher": ("distill", [*DATA, "teacher.run=nobody"], "teacher.run=nobody: there is no run 'nobody'"),
    "no such member": (
        "distill",
        [*DATA, "teacher=ensemble", "+teacher@teacher.members.a=cached", "teacher.members.a.run=nobody"],
        "teacher.members.a.run=nobody: there is no run",
    ),
    "no such start": ("finetune", [*DATA, "start=nobody"], "start=nobody: there is no run 'nobody'"),
    "an unfinished teacher": ("distill", [*DATA, "teacher.run=begun-s0-12345678"], "is not finished, so it cannot"),
    "no file": ("distill", [*DATA[:1], "datamodule.path=nowhere.csv"], "there is no file nowhere.csv"),
    "no column": ("distill", [*DATA, "datamodule.text_column=nope"], "datamodule.text_column='nope' is not in mine.csv"),
    "numbers for labels": ("distill", [*DATA[:1], "datamodule.path=numbers.csv"], "numbers with a fraction, such as 0.04"),
    "ids for labels": ("distill", [*DATA[:1], "datamodule.path=ids.csv"], "30 rows have 30 different labels, such as 'id0'"),
    "a broken line": ("finetune", [*DATA[:1], "datamodule.path=torn.csv"], "line 3 has 3 fields, and the header has 2"),
    "another encoding": ("finetune", [*DATA[:1], "datamodule.path=old.csv"], "set datamodule.encoding=latin-1"),
    "no gzip": ("finetune", [*DATA[:1], "datamodule.path=no.csv.gz"], "no.csv.gz cannot be read as csv"),
    "no such word in a split": ("finetune", [*DATA, "datamodule.split_column=label"], "has 'pos' in the column 'label'"),
    "a sweep": ("distill", ["-m", *DATA, "loss.alpha=0.5,1.5"], "point 2 of 2 (loss.alpha=1.5): loss.alpha is 1.5"),
    "a teacher in a sweep": ("distill", ["-m", *DATA, "teacher.run=nobody", "seed=0,1"], "there is no run 'nobody'"),
    "nothing to evaluate": ("evaluate", ["run=nothere"], "run=nothere: there is no run 'nothere'"),
    "nothing to evaluate on": (
        "evaluate", ["run=done-s0-12345678", *DATA, "datamodule.label_column=x"], "datamodule.label_column='x' is not in",
    ),
    "nothing to predict with": ("predict", ["run=nothere", "path=mine.csv"], "run=nothere: there is no run 'nothere'"),
    "nothing to predict": ("predict", ["run=plain", "path=nowhere.csv"], "there is no file nowhere.csv"),
    "no text to predict": (
        "predict", ["run=plain", "path=mine.csv", "text_column=nope"], "text_column='nope' is not in mine.csv",
    ),
    "a broken line to predict": ("predict", ["run=plain", "path=torn.csv"], "line 3 has 3 fields"),
    "another separator to predict": ("predict", ["run=plain", "path=semi.csv"], "set \"separator=';'\""),
    "no place to write": (
        "predict", ["run=plain", "path=mine.csv", "file=out.doc"], "ends in '.doc', and can be .csv",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("present")
    (folder / "mine.csv").write_text("text,label\n" + "good film,pos\nbad film,neg\n" * 30)
    (folder / "numbers.csv").write_text("text,label\n" + "".join(f"film {i},{i / 25}\n" for i in range(90)))
    (folder / "ids.csv").write_text("text,label\n" + "".join(f"film {i},id{i}\n" for i in range(30)))
    (folder / "semi.csv").write_text("text;label\n" + "a film, good;pos\n" * 9)
    (folder / "torn.csv").write_text("text,label\ngood film,pos\nbad, film,neg\n")
    (folder / "old.csv").write_bytes("text,label\nun été,pos\n".encode("latin-1"))
    (folder / "no.csv.gz").write_bytes(gzip.compress(b"text,label\n" * 50)[:-9])
    for name in ("begun", "done"):
        run = folder / "outputs" / "finetune" / f"{name}-s0-12345678"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("datamodule: {text_column: text}\n")
    (run / "done.json").write_text('{"metric": "val/accuracy", "value": 0.5}')
    (folder / "plain").mkdir()
    (folder / "plain" / "config.json").write_text('{"model_type": "bert"}')
    return folder


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("case", MISTAKES)
def test_it_is_answered_before_torch_is_imported_and_leaves_no_run(case, place):
    verb, words, told = MISTAKES[case]
    before = sorted(place.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", PROBE, verb, *words], cwd=place, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "2 False\n", done.stderr
    assert told in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert sorted(place.rglob("*")) == before


def test_a_table_is_read_again_where_it_was_changed(tmp_path, monkeypatch):
    from omegaconf import OmegaConf

    from kdlab.config.present import check
    from kdlab.error import UserError

    monkeypatch.chdir(tmp_path)
    cfg = OmegaConf.create({"datamodule": {"_target_": "kdlab.datamodule.table.Table", "path": "a.csv"}})
    Path("a.csv").write_text("text,label\na,x,y\n")
    for _ in range(2):
        with pytest.raises(UserError, match="line 2 has 3 fields"):
            check(cfg)
    Path("a.csv").write_text("text,label\na,x\n")
    check(cfg)
    cfg.datamodule.label_map = {True: "yes"}
    with pytest.raises(UserError, match=r"has the label 'x', which datamodule.label_map does not name"):
        check(cfg)
