"""Every experiment, debug preset and trainer on disk: it composes as its header says, and a run of one step works.

Where the real data and weights are not at hand, small made-up ones lie at their places in the cache; with ``-m slow``
the experiments take a step on the real ones that the user's own cache holds.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from gguf_file import write_gguf
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from small import options, shrink
from transformers import BertConfig, BertModel

from kdlab import manifest
from kdlab.config import conf
from kdlab.datamodule import boolq, brown, chinese_reviews, chitchat, digits, movie_reviews, news, pronunciations, rated
from kdlab.datamodule.tokenizer import load as load_tokenizer
from kdlab.fetch import Spec, cache

USERS = cache()  # read before the tests get a cache of their own
EXPERIMENTS = options("experiment")
WORDS = {"en": ("good fine great warm", "bad dull poor cold"), "zh": ("好喜满乐", "坏差烂丑")}
STEP = ["debug=one_batch", "download=false", "logger=none"]


def header(experiment: str) -> list[str]:
    """The first command in an experiment's comments, as words: verb, flags, overrides."""
    text = (conf() / "experiment" / f"{experiment}.yaml").read_text()
    found = re.search(r"^# kdlab ((?:finetune|distill) .*)$", text, re.MULTILINE)
    assert found, (
        f"conf/experiment/{experiment}.yaml: its first lines must hold the command, `# kdlab VERB experiment=…`"
    )
    return shlex.split(found[1])


@pytest.mark.sampled(4, tried="all")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_command_in_the_header_composes_this_experiment(experiment):
    verb, *words = header(experiment)
    words = [word for word in words if word not in ("-m", "--multirun")]
    assert f"experiment={experiment}" in words
    overrides = OverridesParser.create().parse_overrides(words)
    first = [
        f"{one.get_key_element()}={next(iter(one.sweep_string_iterator()))}" if one.is_sweep_override() else word
        for one, word in zip(overrides, words, strict=True)
    ]
    with initialize_config_dir(str(conf()), version_base="1.3"):
        cfg = compose(verb, first)
        if verb == "distill":
            assert cfg.teacher.recipe, "an experiment says who teaches"
            compose("finetune", [str(word) for word in cfg.teacher.recipe])
    assert OmegaConf.to_container(cfg, resolve=True)


def place(folder: Path, source: str) -> Path:
    """Where the cache keeps what ``source`` names; marked as fetched."""
    spec = Spec.read(source)
    target = folder / spec.kind / spec.requirement
    target.mkdir(parents=True, exist_ok=True)
    (target / ".sha256").write_text(f"{spec.sha256}\n")
    path = target
    for step in spec.inner.split("/"):
        path = path / step.split("!")[0]
        if "!" in step:  # an archive, and beside it what was in it
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            path = path.with_name(path.name + "!") / step.split("!")[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def texts(language: str, count: int) -> list[tuple[int, str]]:
    """(1 for positive or 0, text), all different."""
    draw, join = random.Random(0), " " if language == "en" else ""
    sides = [list(side) if language == "zh" else side.split() for side in WORDS[language]]
    made = (draw.choices(sides[1 - number % 2], k=5) + list(str(number)) for number in range(count))
    return [(number % 2, join.join(words)) for number, words in enumerate(made)]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory) -> Path:
    """A cache with a small stand-in at the place of everything that the experiments fetch."""
    folder = tmp_path_factory.mktemp("made_up")
    english, chinese = texts("en", 1200), texts("zh", 400)
    rows = [f"{number}\t{2.0 if side else -2.0}\t{text}" for number, (side, text) in enumerate(english)]
    place(folder, movie_reviews.SOURCE).write_text("\n".join(rows))
    place(folder, rated.SOURCE.format(file=rated.FILES["tweets"])).write_text("\n".join(f"{row} today" for row in rows))
    reviews = place(folder, chinese_reviews.SOURCE)
    reviews.mkdir()
    for side, name in enumerate(("neg.txt", "pos.txt")):
        (reviews / name).write_text("\n".join(text for own, text in chinese if own == side))
    sounds = ["".join("ABCDEFGH"[int(digit)] for digit in f"{number:04o}") for number in range(400)]
    lines = [f"{word}\t{' '.join(word.lower())}" for word in sounds]
    place(folder, pronunciations.SOURCE).write_text("\n".join(lines))
    articles = [{"title": f"News {number}", "text": f"{number} ships. " * 40} for number in range(60)]
    with place(folder, news.SOURCE).open("w", newline="") as file:
        writer = csv.DictWriter(file, ["title", "text"])
        writer.writeheader()
        writer.writerows(articles)
    turns = [
        {"text": f"{number} {WORDS['en'][0].split()[number % 4]}", "sender": "ab"[number % 2]} for number in range(400)
    ]
    talks = {f"talk {at}": {"messages": [[one] for one in turns[at : at + 2]]} for at in range(0, 400, 2)}
    place(folder, chitchat.SOURCE).write_text(json.dumps(talks))
    pairs = [{"question": text, "passage": f"{text} it is", "label": bool(side)} for side, text in english]
    place(folder, boolq.SOURCE).write_text("\n".join(map(json.dumps, pairs)))
    speech = folder / "npm" / f"{brown.PACKAGE}=={brown.VERSION}"
    speech.mkdir(parents=True)
    (speech / "ca01").write_text(
        "\n".join(f"the/at {text.split()[0]}/jj film/nn {text.split()[-1]}/cd" for _, text in english)
    )
    with gzip.open(place(folder, digits.SOURCE), "wt") as file:
        for number in range(200):
            file.write(f"{','.join(str((number + spot) % 250) for spot in range(784))},{number % 10}\n")
    write_gguf(place(folder, OmegaConf.load(conf() / "model/smollm2.yaml").path), layers=30)
    minilm = place(folder, OmegaConf.load(conf() / "model/minilm_l6.yaml").path)
    tokenizer = load_tokenizer("train:wordpiece:200", [text for _, text in english])
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 6}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(minilm)
    tokenizer.save_pretrained(minilm)
    for package in folder.glob("*/*==*"):
        for unpacked in package.rglob("*!"):
            manifest.write(unpacked)
        manifest.write(package)
    return folder


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """One folder of results, so that experiments with the same teacher train it once."""
    return tmp_path_factory.mktemp("outputs")


def one_step(kdlab, experiment: str, outputs: Path) -> tuple[int, str]:
    """The experiment and its teacher, a step each: exit code and what was said."""
    verb = header(experiment)[0]
    words = [f"experiment={experiment}", f"outputs={outputs}", *STEP]
    if verb == "distill":
        with initialize_config_dir(str(conf()), version_base="1.3"):
            recipe = compose(verb, [f"experiment={experiment}"]).teacher.recipe
        words.append(f"teacher.recipe=[{','.join(map(repr, [*map(str, recipe), STEP[0]]))}]")
    code, out, err = kdlab(verb, *words)
    return code, out + err


@pytest.mark.sampled(1, tried="all")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_does_a_step_on_made_up_data(kdlab, experiment, made_up, outputs, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(made_up))
    code, said = one_step(kdlab, experiment, outputs)
    if code and "is not in the cache" in said:
        pytest.fail(f"{experiment} fetches something new: give the fixture made_up a stand-in for it\n{said}")
    assert code == 0, said
    finished(outputs, experiment)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_does_a_step_on_the_real_data(kdlab, experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(USERS))
    code, said = one_step(kdlab, experiment, tmp_path / "real")
    if code and "is not in the cache" in said:
        pytest.skip(f"the cache {USERS} does not hold what {experiment} needs: {said.strip().splitlines()[-1]}")
    assert code == 0, said
    finished(tmp_path / "real", experiment)


def finished(outputs: Path, experiment: str) -> None:
    runs = [OmegaConf.load(path.parent / "config.yaml") for path in outputs.glob("*/*/done.json")]
    assert any(run.choice.get("experiment") == experiment for run in runs)


@pytest.fixture(scope="module")
def words(tmp_path_factory, reviews) -> Iterator[list[str]]:
    """A student alone on made-up reviews: what the presets are tried on."""
    with initialize_config_dir(str(conf()), version_base="1.3"):
        node = shrink(compose("runs", ["+model=bert_tiny"]).model)
    sizes = [f"model.{key}={value}" for key, value in node.items() if key != "_target_"]
    yield ["finetune", "datamodule=table", f"datamodule.path={reviews}", "model=bert_tiny", *sizes, "logger=none"]


@pytest.mark.sampled(1, tried="all")
@pytest.mark.parametrize("preset", options("debug"))
def test_every_debug_preset_runs(kdlab, words, preset):
    code, out, err = kdlab(*words, f"debug={preset}")
    assert code == 0, out + err
    (done,) = Path("outputs/finetune").glob("*/done.json")
    assert json.loads(done.read_text())["state"] == "finished"


@pytest.mark.parametrize("trainer", [trainer for trainer in options("trainer") if trainer not in ("ddp", "fsdp")])
def test_every_trainer_runs(kdlab, words, trainer):
    """All but ddp and fsdp, which test_command_rank.py runs on two processes."""
    if trainer == "gpu" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    code, out, err = kdlab(*words, f"trainer={trainer}", "trainer.max_epochs=1")
    assert code == 0, out + err
