"""The front pages and the guide: every command composes, every link resolves, and the pages stay short."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from documents import FRONT, GUIDE, ROOT, commands, headings, prose, shown
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser

import kdlab.config.identity  # noqa: F401  registers the resolvers
from kdlab.config import conf
from kdlab.config.option import composing
from kdlab.config.verb import verbs
from kdlab.help.explain import explain
from kdlab.help.guide import OPENING

PAGES = [*FRONT, *GUIDE]
LINKED = sorted({*PAGES, *ROOT.glob("*.md")})
TYPED = [(path, line) for path in PAGES for line in commands(path)]
FLAGS = ("--config-dir", "--config-name", "--cfg")  # those that have a value


def words(line: str) -> list[str]:
    """The verb and its overrides, without flags and comments."""
    found, flag = [], False
    for word in shlex.split(line, comments=True)[1:]:
        if not word.startswith("-") and not flag:
            found.append(word)
        flag = word in FLAGS
    return found[1:] if found[:1] == ["doctor"] and len(found) > 1 else found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A config folder with the options that the documents show."""
    folder = tmp_path_factory.mktemp("own")
    for file, content in shown().items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)
    return folder / "conf"


@pytest.mark.sampled(25, tried="all")
@pytest.mark.parametrize(
    ("path", "line"), [pytest.param(*typed, id=f"{name(typed[0])}: {typed[1]}") for typed in TYPED]
)
def test_every_command_composes(path, line, own):
    if line.split()[1].startswith("-"):
        assert line.split()[1] == "--shell-completion"
        return
    verb, *overrides = words(line)
    if verb == "help":
        assert not overrides or explain(overrides, conf())
        return
    known = verbs([own])
    assert verb in known, f"{verb} is no command"
    if not known[verb].composed:
        return
    parser = OverridesParser.create()
    first = []
    for word, override in zip(overrides, parser.parse_overrides(overrides), strict=True):
        choice = override.is_choice_sweep()
        first.append(
            f"{override.input_line.split('=')[0]}={next(override.sweep_string_iterator())}" if choice else word
        )
    sweeps = [word for word, override in zip(first, parser.parse_overrides(first), strict=True)
              if override.is_sweep_override()]  # fmt: skip
    single = [word for word in first if word not in sweeps]
    with composing(conf(), own):
        cfg = compose(verb, single, return_hydra_config=True)
    assert cfg.hydra.job.config_name == verb


def test_there_are_commands_to_look_at():
    assert len(TYPED) > 60
    assert any("teacher.recipe" in line for _, line in TYPED)


@pytest.mark.parametrize("path", LINKED, ids=name)
def test_every_link_resolves(path):
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose(path)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{name(path)} links to {target}, which does not exist"
        if anchor:
            assert anchor in headings(found), f"{name(path)} links to {target}, which has no such heading"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_pages_are_short(path):
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= (150 if path in FRONT else 200)
    assert max(map(len, [line for line in lines if not line.startswith(("|", "kdlab "))])) <= 160


@pytest.mark.parametrize("path", GUIDE, ids=name)
def test_a_guide_page_begins_with_what_its_reader_can_do(path):
    title, empty, first = path.read_text("utf-8").splitlines()[:3]
    assert title.startswith("# ") and not empty
    assert first.startswith(OPENING), "the first sentence is what a reader can do afterwards"


@pytest.mark.parametrize("path", FRONT, ids=name)
def test_every_guide_page_is_reached_from_each_front_page(path):
    linked = set(re.findall(r"\]\((kdlab/guide/\w+\.md)", path.read_text("utf-8")))
    assert linked == {name(page) for page in GUIDE}


def test_the_architecture_names_every_room():
    text = (ROOT / "kdlab/guide/architecture.md").read_text("utf-8")
    rooms = {
        path.name for path in (ROOT / "kdlab").iterdir() if path.is_dir() and path.name not in ("conf", "__pycache__")
    }
    assert {room for room in rooms if f"{room}/" not in text} == set()


def test_front_pages_have_the_same_commands_and_numbers():
    first, *others = FRONT
    for other in others:
        for read in (_typed, _numbers):
            assert read(first) == read(other), f"{other.name} differs from {first.name}"


def _typed(path: Path) -> Counter:
    return Counter(" ".join(shlex.split(line, comments=True)) for line in commands(path))


def _numbers(path: Path) -> Counter:
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", prose(path)))
