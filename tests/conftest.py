"""Every test runs offline, on one thread, and away from the user's own cache and results."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import composed
import pytest
from fork import end, start
from hypothesis import HealthCheck, settings
from shape import TINY

import kdlab.launcher

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("KDLAB_JOBS", "1")  # sweeps in the process of the test

settings.register_profile("kdlab", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
settings.load_profile("kdlab")

GOOD = ("good", "great", "fine", "warm", "funny", "moving")
BAD = ("bad", "dull", "poor", "cold", "weak", "boring")
FILLER = ("the", "film", "is", "a", "and", "story", "with", "actors", "this", "very", "plot")


gc.disable()  # until all tests are collected: collections would look again and again at objects that all stay


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden-write", action="store_true", help="write tests/golden/ anew; see its README.md")
    parser.addoption("--docs-write", action="store_true", help="write the tables of objectives in kdlab/guide anew")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all cases of a ``sampled(n, tried=m)`` test slow but n, spread evenly over those that are not slow already.

    Before a commit lands m are tried (of "all", or without it half as many more than n), and of those that are slow
    already a third of m; the others are ``rare`` as well.
    """
    families: dict[tuple[str, bool], list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sampled") and not item.get_closest_marker("gpu"):
            already = item.get_closest_marker("slow") is not None
            families[item.nodeid.partition("[")[0], already].append(item)
    for (_, already), cases in families.items():
        mark = cases[0].get_closest_marker("sampled")
        count, tried = mark.args[0], mark.kwargs.get("tried", mark.args[0] * 3 // 2)
        tried = len(cases) if tried == "all" else tried // 3 if already else tried
        fast = set() if already else spread(cases, count)
        often = fast | spread(cases, tried)
        for place, case in enumerate(cases):
            if place not in fast:
                case.add_marker("slow")
            if place not in often:
                case.add_marker("rare")


def spread(cases: list[pytest.Item], count: int) -> set[int]:
    """The places of ``count`` cases, evenly apart."""
    return {place * len(cases) // count for place in range(count)}


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """One cache for the tests of a process, so that tiny tokenizers are trained once."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["KDLAB_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    with composed.once():
        yield


@pytest.fixture(scope="session")
def reviews(tmp_path_factory) -> Path:
    """A csv of 160 short made-up reviews, separable by single words."""
    draw = random.Random(0)
    rows = ["text,label"]
    for number in range(160):
        label = number % 2
        words = draw.choices(FILLER, k=draw.randint(3, 9)) + draw.choices((BAD, GOOD)[label], k=2)
        draw.shuffle(words)
        rows.append(f"{' '.join(words)} {number},{('negative', 'positive')[label]}")
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="session")
def tiny(reviews) -> dict[str, list[str]]:
    """Overrides that make each verb small: a table of made-up reviews, two narrow layers, two epochs."""
    shared = ["datamodule=table", f"datamodule.path={reviews}", "datamodule.batch_size=16", "trainer.max_epochs=2"]
    shared += ["trainer.precision=32-true"]  # the same numbers on every machine
    teacher = [*shared, "model=bert_tiny", *[f"model.{word}" for word in TINY]]
    recipe = ",".join(f"'{word}'" for word in teacher)
    student = ["model@student=bert_tiny", *[f"student.{word}" for word in TINY], "model@teacher.model=bert_tiny"]
    student += [f"teacher.model.{word}" for word in TINY]
    return {"finetune": teacher, "distill": [*shared, *student, f"teacher.recipe=[{recipe}]"]}


@pytest.fixture
def stored_run(tmp_path, monkeypatch, base) -> Path:
    """A finished student, taught by a finished teacher, in ./outputs."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(base / "outputs", "outputs")
    teacher = next(iter(Path("outputs/finetune").glob("*"))).absolute()
    (found,) = Path("outputs/distill").glob("*")
    (found / "teacher.json").write_text(json.dumps({"id": teacher.name, "folder": str(teacher)}))
    return found


@pytest.fixture
def kdlab(tmp_path, tmp_path_factory, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """Run a kdlab command in this process, from an empty folder: (exit code, stdout, stderr)."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from kdlab import OWN
    from kdlab.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(OWN, "")  # which a command with --config-dir sets
    others = str(tmp_path_factory.getbasetemp())
    for name, module in list(sys.modules.items()):
        own = getattr(module, "__dict__", {})
        places = [own.get("__file__") or "", *(own.get("__path__") or ())]
        if any(str(place).startswith(others) for place in places):
            monkeypatch.delitem(sys.modules, name)  # of another test's folder
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not place.startswith(others)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["kdlab", *arguments])
        GlobalHydra.instance().clear()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            GlobalHydra.instance().clear()
            HydraConfig.instance().cfg = None
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def base(tiny, tmp_path_factory) -> Path:
    """A folder whose outputs hold a finished teacher and a finished student; copy them before you change them."""
    folder = tmp_path_factory.mktemp("base")
    code, said = end(start(["distill", *tiny["distill"], "logger=none"], folder), folder)
    assert code == 0, said
    return folder
