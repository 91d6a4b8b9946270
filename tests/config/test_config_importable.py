"""Which folders a user's own modules are imported from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kdlab
from kdlab.config.importable import importable

OPTION = "_target_: {}.Term\nweight: 1.0\n"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working directory that is not a place to import from yet."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(kdlab.OWN, "")
    return work


def module(folder: Path, name: str) -> None:
    file = folder / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("Term = dict\n")


def option(conf: Path, target: str) -> Path:
    file = conf / "loss" / "term" / "mine.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(OPTION.format(target))
    return conf


@pytest.mark.parametrize("where", ["conf", "beside", "working directory"])
@pytest.mark.parametrize("form", [["--config-dir", "CONF"], ["--config-dir=CONF"], ["hydra.searchpath=[file://CONF]"]])
def test_the_folders_of_the_users_own_options_are_importable(where, form, place, tmp_path):
    conf = option(tmp_path / "mine" / "conf", "mylab.losses")
    folder = {"conf": conf, "beside": conf.parent, "working directory": place}[where]
    module(folder / "mylab", "losses")
    assert importable([word.replace("CONF", str(conf)) for word in form]) == [folder]
    assert sys.path[-1] == str(folder)
    assert os.environ[kdlab.OWN] == str(folder), "jobs in other processes find it too"


def test_a_target_or_a_trusted_module_of_the_command_line_is_importable(place):
    module(place, "my_term")
    assert importable(["loss.terms.kl._target_=my_term.Term"]) == [place]
    sys.path.remove(str(place))
    assert importable(["run=X", "trust=[my_term.*]"]) == [place]


def test_what_lies_in_the_working_directory_unnamed_is_not(place, tmp_path):
    for name in ("submitit", "evil", "peft"):
        module(place, name)
    run = place / "outputs" / "distill" / "X"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(OPTION.format("evil"))
    conf = option(tmp_path / "mine" / "conf", "kdlab.loss.logit.kl")
    assert importable(["run=X"]) == []
    assert importable(["--config-dir", str(conf), "run=X"]) == []
    assert str(place) not in sys.path


def test_nothing_stands_in_for_what_is_installed(place, tmp_path):
    module(place, "torch")
    conf = option(tmp_path / "mine" / "conf", "torch.optim")
    assert importable(["--config-dir", str(conf)]) == []


def test_another_process_of_the_command_has_the_same_folders(place, tmp_path):
    module(place, "my_term")
    importable(["loss.terms.kl._target_=my_term.Term"])
    code = "import kdlab, sys, my_term; assert sys.path[-1] == sys.argv[1], sys.path; print(my_term.__file__)"
    environment = os.environ | {"PYTHONPATH": str(Path(kdlab.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(place)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(place / "my_term.py"), done.stderr
