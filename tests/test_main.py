"""The command line: verbs, Hydra's own flags for each of them, help within a second, completion in a real shell."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from verbs import OTHERS, VERBS

from kdlab.__main__ import _interrupted
from kdlab.config import conf
from kdlab.config.verb import verbs
from kdlab.help.complete import INSTALL, answer

TRAINING = ("finetune", "distill")


def test_the_list_of_verbs(kdlab):
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        code, out, _ = kdlab(*arguments)
        assert code == 0
        listed = re.findall(r"^  (\w+) +(\S.*)$", out, re.M)
        assert [verb for verb, _ in listed] == list(verbs())
        assert listed == [(name, verb.about) for name, verb in verbs().items()]
        assert "help" in dict(listed) and "first: kdlab distill datamodule=table datamodule.path=FILE" in out
    assert kdlab("--version")[0] == 0
    code, _, err = kdlab("destill")
    assert code == 2
    assert err.startswith(
        "error: 'destill' is not a kdlab command; did you mean distill? use one of: distill, finetune"
    )
    assert err.rstrip().endswith(", ".join(verbs()))


@pytest.mark.sampled(0, tried=4)
@pytest.mark.parametrize("verb", VERBS)
def test_hydras_flags_work_for_every_verb(kdlab, verb, tmp_path):
    code, out, err = kdlab(verb, "--cfg", "job")
    assert code == 0, err
    assert yaml.safe_load(out)["outputs"] == "outputs"
    for arguments, told in (
        (["--cfg", "hydra"], "config_name: " + verb),
        (["--info", "searchpath"], str(conf())),
        (["--hydra-help"], "--config-dir"),
        (["--help"], f"kdlab {verb}"),
    ):
        code, out, err = kdlab(verb, *arguments)
        assert code == 0, err
        assert told in out
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize(("users", "torchs"), [({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0")])
def test_torch_asks_for_large_pages_unless_the_user_decides(users, torchs):
    others = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    code = "import os, sys, kdlab; print(os.environ['THP_MEM_ALLOC_ENABLE'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=others | users)
    assert done.stdout.split() == [torchs, "False"]  # torch reads it at its first tensor


def test_help_lists_the_verbs_own_groups_and_what_is_chosen(kdlab):
    out = kdlab("distill", "freeze=head", "--help")[1]
    assert "freeze                     [head], bitfit, bottom" in out
    for name in (
        "model@student",
        "model@teacher.model",
        "callback",
        "loss",
        "task/head",
        "loss/term",
        "schedule",
        "lr: ",
    ):
        assert f"  {name}" in out, name
    assert "hydra/" not in out
    out = kdlab("finetune", "--help", "--resolve")[1]
    groups = re.findall(r"^  (\S+)", out.split("The composed config")[0], re.M)
    assert "model" in groups and not [group for group in groups if "teacher" in group], "only distilling has a teacher"
    assert "${" not in out
    out = kdlab("evaluate", "--help")[1]
    assert "  datamodule " in out
    assert "schedule" not in out
    code, _, err = kdlab("distill", "freeze=melt", "--help")
    assert code == 2
    assert "melt" in err


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_every_key_does(kdlab, verb):
    out = kdlab(verb, "--help")[1]
    config = out.split("sweep it with -m KEY=A,B.\n")[1].split("\nFlags:")[0]
    values = [line for line in config.splitlines() if re.match(r" *[a-z]\w*: .", line)]
    bare = [line for line in values if "#" not in line and len(line) < 61]
    assert len(values) >= 3
    assert not bare


def test_the_users_own_config_dir(kdlab, tiny, tmp_path):
    for folder in ("own/loss", "own/mine"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "own/loss/soft.yaml").write_text("defaults: [kd]\ntemperature: 7.5\n")
    (tmp_path / "own/mine/thing.yaml").write_text("a: 1\n")
    code, out, err = kdlab("distill", "--config-dir", "own", "loss=soft", "--cfg", "job")
    assert code == 0, err
    assert yaml.safe_load(out)["loss"]["temperature"] == 7.5
    out = kdlab("distill", "--config-dir", "own", "loss=soft", "--help")[1]
    assert "[soft], ab" in out
    assert "  mine " in out
    code, _, err = kdlab("distill", "--config-dir", "nowhere", "--help")
    assert code == 2
    assert "nowhere" in err


def run(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(conf().parent)} | variables
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=variables, capture_output=True, text=True)


@pytest.mark.slow
def test_python_m_kdlab_is_the_same_command_and_a_closed_pipe_is_no_traceback(tmp_path):
    done = run("-m", "kdlab", "distill", "--cfg", "job", folder=tmp_path)
    assert done.returncode == 0
    assert "temperature: 2.0" in done.stdout
    command = f"{sys.executable} -m kdlab distill --help | head -n 1"
    piped = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(conf().parent)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (piped.stdout, piped.stderr) == ("kdlab distill [overrides]\n", "")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("arguments", [["--help"], *[[verb, "--help"] for verb in VERBS]], ids=" ".join)
def test_help_takes_less_than_a_second(arguments, tmp_path):
    """Of processor time, the best of three: what else the machine does is not ours."""
    run("-m", "kdlab", *arguments, folder=tmp_path)  # fills the cache of compiled modules
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("-m", "kdlab", *arguments, folder=tmp_path).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1


def complete(line: str) -> list[str]:
    return answer(line, verbs(), conf())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kdlab di", ["distill "]),
        ("kdlab r", ["report ", "runs "]),
        ("kdlab nothing lo", []),
        ("kdlab distill fre", ["freeze.", "freeze="]),
        ("kdlab distill freeze=no", ["freeze=none"]),
        ("kdlab distill -m freeze=none,he", ["freeze=none,head"]),
        ("kdlab distill model@st", ["model@student="]),
        ("kdlab distill model@teacher.model=bert", ["model@teacher.model=bert_tiny"]),
        ("kdlab distill loss.temp", ["loss.temperature="]),
        ("kdlab distill loss.temperature=", ["loss.temperature=2.0"]),
        ("kdlab distill freeze=bottom freeze.la", ["freeze.layers="]),
        ("kdlab distill -m freeze=none,head seed=1 optimizer.l", ["optimizer.lr="]),
        ("kdlab distill optimizer=none_such trainer.max_e", ["trainer.max_epochs="]),
        ("kdlab distill rerun=", ["rerun=false", "rerun=true"]),
        ("kdlab distill +sch", ["+schedule@"]),
        ("kdlab distill +schedule@loss.al", ["+schedule@loss.alpha="]),
        ("kdlab distill +schedule@loss.alpha=lin", ["+schedule@loss.alpha=linear"]),
        ("kdlab distill +loss/term@loss.terms.x=kl", ["+loss/term@loss.terms.x=kl"]),
        ("kdlab distill --conf", ["--config-dir ", "--config-name "]),
        ("kdlab distill --cfg j", ["job "]),
        ("kdlab runs so", ["sort="]),
    ],
)
def test_completion(line, expected):
    assert complete(line) == expected


@pytest.mark.slow
def test_completion_of_every_group_and_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("reviews.csv").touch()
    Path("real/loss").mkdir(parents=True)
    Path("real/loss/mine.yaml").write_text("defaults: [kd]\n")
    assert complete("kdlab distill datamodule=table datamodule.path=re") == [
        "datamodule.path=real/",
        "datamodule.path=reviews.csv",
    ]
    assert complete("kdlab doctor dist") == ["distill "]
    assert complete("kdlab doctor distill -m loss=mi") == complete("kdlab distill -m loss=mi")
    assert complete("kdlab distill --config-dir re") == ["real/", "reviews.csv"]
    assert complete("kdlab distill --config-dir real loss=mine") == ["loss=mine"]
    options = {path.stem for path in (conf() / "loss").glob("*.yaml")}
    assert set(complete("kdlab distill loss=")) == {f"loss={name}" for name in options}
    assert {"loss=", "freeze=", "callback=", "outputs=", "student.", "trainer."} <= set(complete("kdlab distill "))


@pytest.mark.slow
def test_completion_in_a_real_bash(tmp_path):
    """With its own splitting of words at = : and @, which COMP_WORDBREAKS lists."""
    program = tmp_path / "kdlab"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kdlab "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(kdlab --shell-completion install=bash)"
        complete -p kdlab
        try() {
            COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; COMPREPLY=()
            _kdlab kdlab; printf '<%s>' "${COMPREPLY[@]}"; echo
        }
        try 'kdlab dis'; try 'kdlab distill freeze=he'; try 'kdlab distill model@student=bert'
        try 'kdlab distill loss.al'
        eval "$(kdlab --shell-completion uninstall=bash)"
        complete -p kdlab 2>&1
    """
    variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(conf().parent)}
    done = subprocess.run(["bash", "--norc", "-c", script], env=variables, cwd=tmp_path, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "complete -o nospace -F _kdlab kdlab", done.stderr
    assert lines[1:5] == ["<distill >", "<head>", "<bert_tiny>", "<loss.alpha=>"]
    assert "no completion specification" in lines[5]


@pytest.mark.parametrize("shell", INSTALL)
def test_completion_scripts_are_valid(kdlab, shell):
    code, out, _ = kdlab("--shell-completion", f"install={shell}")
    assert code == 0
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=out, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_shell_is_named(kdlab):
    code, _, err = kdlab("--shell-completion", "install=csh")
    assert code == 2
    assert "install=csh: use install=SHELL" in err


@pytest.mark.parametrize("verb", [*VERBS, *OTHERS])
def test_what_an_interruption_leaves_is_said_of_the_command_itself(verb):
    verbs()[verb].load()
    said = _interrupted([verb, "run=1a2b"])
    assert said.startswith("interrupted")
    assert ("checkpoint" in said) == (verb in ("finetune", "distill"))


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("predict path=new.csv file=out.csv", "; the same command goes on after the rows that were written"),
        ("predict path=new.csv", "; the same command begins anew"),
        ("predict path=- file=out.csv", "; the same command begins anew"),
        ("distill -m seed=1,2", "; the same command goes on: finished jobs are kept, others go on from their last"),
        ("finetune rerun=true", "; the same command without rerun=true goes on from the last checkpoint"),
        ("sync", "; the same command sends what is left"),
        ("runs live=true", ""),
    ],
)
def test_what_goes_on_after_an_interruption(line, after):
    verbs()[line.split()[0]].load()
    said = _interrupted(line.split()).removeprefix("interrupted")
    assert said.startswith(after) and bool(said) == bool(after)
