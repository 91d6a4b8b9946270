"""What is built is what a user installs: the wheel alone, in a new environment, from an empty folder."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name(requirement: str) -> str:
    return re.split(r"[<>=!~\[ ;]", requirement)[0].lower().replace("_", "-")


def imported() -> set[str]:
    """The distributions that the package imports, wherever in a file."""
    modules = set()
    for path in (ROOT / "kdlab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.add(node.module.split(".")[0])
    modules -= {"kdlab", *sys.stdlib_module_names}
    owners = packages_distributions() | {"hydra_plugins": ["hydra-submitit-launcher"]}  # a namespace of many
    return {name(owners[module][0]) for module in modules}


def test_what_is_imported_is_what_is_declared():
    declared = {name(requirement) for requirement in PROJECT["dependencies"]}
    # imported in the one function that needs them, which names the extra
    optional = {
        "datasets",
        "tensorboard",
        "optuna",
        "submitit",
        "hydra-submitit-launcher",
        "ray",
        "wandb-workspaces",
        "peft",
        "absl-py",
        "onnx",
        "onnxruntime",
        "jiwer",
        "rouge-score",
        "sacrebleu",
    }
    assert imported() - optional == declared
    extras = {name(requirement) for group in PROJECT["optional-dependencies"].values() for requirement in group}
    assert optional <= extras
    pinned = {name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")}
    assert declared | extras - {"kdlab"} <= pinned


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of a new environment that has the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    subprocess.run([*pip, "check"], check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("empty")


def kdlab(installed: Path, folder: Path, *arguments: str) -> str:
    """The installed command, as a user has it: no PYTHONPATH, the user's own cache."""
    drop = ("PYTHONPATH", "KDLAB_CACHE", "VIRTUAL_ENV")
    variables = {key: value for key, value in os.environ.items() if key not in drop} | {"WANDB_MODE": "offline"}
    if cache := os.environ.get("KDLAB_WHEEL_CACHE"):
        variables["KDLAB_CACHE"] = cache
    done = subprocess.run([installed / "kdlab", *arguments], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.wheel
def test_the_wheel_holds_the_package_and_its_config_and_nothing_else(wheel):
    files = {file for file in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in file}
    ours = subprocess.run(["git", "ls-files", "kdlab", "conf"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if ours:  # not in a source archive
        assert files == {f"kdlab/{file}" if file.startswith("conf/") else file for file in ours}
    assert "kdlab/conf/experiment/movie_reviews.yaml" in files
    assert {file.split("/")[0] for file in files} == {"kdlab"}


@pytest.mark.wheel
def test_help_and_config_from_an_empty_folder(installed, empty):
    assert "kdlab distill experiment=movie_reviews" in kdlab(installed, empty, "--help")
    assert "[minilm_l6], bert_tiny" in kdlab(installed, empty, "distill", "--help")
    assert "teacher:" in kdlab(installed, empty, "distill", "--cfg", "job")
    assert "_kdlab" in kdlab(installed, empty, "--shell-completion", "install=bash")
    assert list(empty.iterdir()) == []


@pytest.mark.wheel
def test_distil_movie_reviews_with_an_option_of_the_users_own(installed, empty):
    (empty / "mine/loss").mkdir(parents=True)
    (empty / "mine/loss/soft.yaml").write_text("defaults: [kd]\ntemperature: 8.0\n")
    small = ["debug=one_batch", "datamodule.train_rows=300", "datamodule.val_rows=64", "datamodule.test_rows=64"]
    recipe = ",".join(f"'{word}'" for word in ["experiment=movie_reviews_teacher", *small])
    words = ["experiment=movie_reviews", *small, f"teacher.recipe=[{recipe}]"]
    kdlab(installed, empty, "distill", *words)
    kdlab(installed, empty, "distill", "--config-dir", "mine", *words, "loss=soft")
    for verb, count in (("distill", 2), ("finetune", 1)):
        assert len(list(empty.glob(f"outputs/{verb}/*/done.json"))) == count
    assert len(list(empty.glob("outputs/wandb/offline-run-*"))) == 3
    table = kdlab(installed, empty, "runs", "format=csv")
    assert len(table.strip().splitlines()) == 4
    kdlab(installed, empty, "report")
    page = (empty / "outputs/report.html").read_text()
    assert "</html>" in page
    assert "soft" in page
