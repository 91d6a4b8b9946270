"""The page stands alone, tells of every run, and nothing in a run's names or values becomes markup."""

import io
import json
import re
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console
from synthetic_run import distill_config, write_run

from kdlab.command import report as report_command
from kdlab.command import runs as runs_command
from kdlab.error import UserError
from kdlab.report import records
from kdlab.report.page import page
from kdlab.report.table import ordered, to_terminal

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def config(root, verb, *overrides):
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        return compose(verb, overrides=list(overrides))


def test_page_is_one_small_file_that_asks_for_nothing(sweep, pytestconfig):
    path = report_command.main(config(pytestconfig.rootpath, "report", f"outputs={sweep}"))
    text = path.read_text()
    assert path == sweep / "report.html"
    assert len(text) < 300_000
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(?!data:)\w+:?//""", text)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text
    for run in records(sweep):
        assert run.id in text
        assert run.reason in text


def test_names_and_values_stay_text(tmp_path):
    evil = distill_config(1)
    evil["note"], evil["choice"]["freeze"], evil["loss"][EVIL] = EVIL, EVIL, EVIL
    write_run(tmp_path, "distill", "a", evil, {"test/accuracy": 0.5, EVIL: 1.0}, [{"step": 1, EVIL: 2.0}], group=EVIL)
    write_run(tmp_path, "distill", "b<b>", distill_config(1), state="failed", error=f"{EVIL}: {EVIL}", overrides=[EVIL])
    text = page(records(tmp_path), "test/accuracy", EVIL, EVIL)
    assert text.count("<script") == 2
    assert text.count("</script") == 2
    assert "<img" not in text
    assert "b<b>" not in text
    embedded = re.search(r'id="data">(.*?)</script>', text, re.S).group(1)
    assert not set(embedded) & set("<>&")
    assert EVIL in json.loads(embedded)["curves"]


@pytest.mark.parametrize("states", [["interrupted"], ["failed", "running"], ["finished"]])
def test_page_of_few_runs(tmp_path, states):
    for state in states:
        write_run(tmp_path, "finetune", state, {"choice": {"model": "mlp"}}, {"val/accuracy": 1.0}, state=state)
    assert "</html>" in page(records(tmp_path), "test/accuracy", "few", "here")


def test_table_in_all_formats(sweep, tmp_path, capsys, pytestconfig):
    import pandas

    root = pytestconfig.rootpath
    runs_command.main(config(root, "runs", f"outputs={sweep}", "select=kd_sweep"))
    told = capsys.readouterr().out
    assert "23 finished, 1 failed, 1 interrupted, 1 missing" in told
    assert "OutOfMemory" in told
    runs_command.main(config(root, "runs", f"outputs={sweep}", "format=csv", f"file={tmp_path}/x/runs.csv"))
    runs_command.main(config(root, "runs", f"outputs={sweep}", "format=parquet", f"file={tmp_path}/runs.parquet"))
    flat, packed = pandas.read_csv(tmp_path / "x/runs.csv"), pandas.read_parquet(tmp_path / "runs.parquet")
    assert list(flat.columns) == list(packed.columns)
    assert flat["val/accuracy"].tolist()[:23] == sorted(packed["val/accuracy"].dropna(), reverse=True)
    runs_command.main(config(root, "runs", f"outputs={sweep}", "format=csv", "columns=[id,loss.temperature,seed]"))
    assert capsys.readouterr().out.splitlines()[-27] == "id,loss.temperature,seed"


@pytest.mark.parametrize("width", [40, 90, 400])
def test_no_terminal_is_too_narrow_for_a_value(sweep, width):
    found = ordered(records(sweep), "test/accuracy")
    console = Console(file=io.StringIO(), width=width)
    to_terminal(found, console, "title")
    told = console.file.getvalue()
    for run in found:
        line, *_ = [line for line in told.splitlines() if run.id[-8:] in line and run.state in line]
        assert f"{run.metrics['test/accuracy']:.4f}" in line if run.metrics else run.reason in " ".join(told.split())


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["outputs=/nowhere/at/all"], "/nowhere/at/all"),
        (["select=nothing_like_it"], "nothing_like_it"),
        (["format=xml"], "csv"),
        (["format=parquet"], "file="),
        (["columns=[no/such]"], "no/such"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(sweep, pytestconfig, overrides, said):
    with pytest.raises(UserError, match=said):
        runs_command.main(config(pytestconfig.rootpath, "runs", f"outputs={sweep}", *overrides))


def test_unknown_metric_names_the_known(sweep, pytestconfig):
    with pytest.raises(UserError, match="test/accuracy"):
        report_command.main(config(pytestconfig.rootpath, "report", f"outputs={sweep}", "by=test/acuracy"))


def test_looking_at_runs_needs_no_torch():
    code = "import sys, kdlab.command.report, kdlab.command.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
