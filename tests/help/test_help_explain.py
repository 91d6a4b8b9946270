"""`kdlab help`: every term of a loss says what it is, its formula, when to use it, what it costs, and its source."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import OmegaConf
from small import options
from verbs import VERBS

from kdlab.config import conf
from kdlab.config.importable import is_base
from kdlab.config.near import leaves
from kdlab.error import UserError
from kdlab.help.explain import explain
from kdlab.help.option import PARTS, documented, page

GROUPS = sorted({path.parent.relative_to(conf()).as_posix() for path in conf().glob("*/**/*.yaml")})


@pytest.mark.sampled(20, tried="all")
@pytest.mark.parametrize("term", options("loss/term"))
def test_every_term_has_all_parts(term):
    found = page("loss/term", term, [conf()])
    assert found.about and found.family in ("logit", "feature", "relation")
    lacking = [part for part in ("what", *PARTS) if len(found.parts.get(part, "").split()) < 2 and part != "Cost"]
    assert not lacking, f"the docstring of the class that conf/loss/term/{term}.yaml names lacks {lacking}"
    assert re.search(r"parameter|linear map|projection|net|network|fusion|autoencoder", found.parts["Cost"]), (
        "says what it adds to the model"
    )
    assert re.search(r"(19|20)\d\d", found.parts["Source"])
    text = explain([f"loss/term={term}"], conf())
    for part in PARTS:
        assert f"\n{part}:" in text
    assert f"+loss/term@loss.terms.{term}={term}" in text


@pytest.mark.parametrize("term", options("loss/term"))
def test_what_is_read_as_text_is_what_the_code_says(term):
    target = yaml.safe_load((conf() / "loss/term" / f"{term}.yaml").read_text())["_target_"]
    said = " ".join((inspect.getdoc(get_object(target)) or "").replace("``", "").split())
    for part in ("Formula", "When", "Cost"):
        assert f"{part}: {' '.join(documented(target)[part].split())}" in said


@pytest.mark.sampled(10, tried="all")
@pytest.mark.parametrize("group", GROUPS)
def test_every_option_of_every_group_has_a_page(group):
    listed = explain([group], conf())
    for option in options(group):
        chosen = not is_base(conf() / group / f"{option}.yaml")
        assert (f"  {option} " in f"{listed}\n".replace("\n", " \n")) == chosen
        assert explain([f"{group}={option}"], conf()).startswith(f"{group}={option}")


def test_settings_that_an_option_takes_over_are_on_its_page_once():
    text = explain(["datamodule=table"], conf())
    for key in ("text_column", "max_length", "batch_size", "val_fraction"):
        assert len(re.findall(rf"^  {key}: ", text, re.M)) == 1, key
    assert text.index("text_column:") < text.index("From datamodule=base:") < text.index("From datamodule=rows:")
    alone = page("datamodule", "rows", [conf()])
    assert alone.inherited == {} and alone.settings


def test_a_recipe_explains_its_terms():
    text = explain(["loss=tinybert"], conf())
    for term in ("kl", "embedding", "hidden", "attention"):
        assert f"(loss/term={term})" in text
    assert text.count("\n  When:") == 4 and "kdlab distill loss=tinybert" in text
    assert "loss=tinybert" in explain(["+loss/term@loss.terms.mine=hidden"], conf())


def test_an_experiment_is_described_before_its_command():
    listed = explain(["experiment"], conf())
    assert "movie_reviews_third" in listed and "All labels: a student of a third of the teacher's own layers" in listed
    assert "seed=0,1,2,3,4" not in listed
    text = explain(["experiment=movie_reviews_third"], conf())
    assert text.startswith("experiment=movie_reviews_third: All labels: ")
    assert "\nRun it:    kdlab distill -m experiment=movie_reviews_third seed=0,1,2,3,4\n" in text
    assert "\nWhich two are kept matters most" in text


def test_an_option_of_ones_own_is_found(tmp_path):
    (tmp_path / "own/loss/term").mkdir(parents=True)
    (tmp_path / "own/loss/term/mine.yaml").write_text("# Mine\n_target_: mylab.mine.Mine\nweight: 1.0\n")
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab/mine.py").write_text('class Mine:\n    """A thing.\n\n    Formula: s - t.\n    """\n')
    text = explain(["loss/term=mine", "--config-dir", str(tmp_path / "own")], conf())
    assert text.startswith("loss/term=mine: Mine\n\nA thing.\n") and "Formula: s - t." in text


def test_it_answers_at_once_and_imports_no_model():
    words = [sys.executable, "-X", "importtime", "-m", "kdlab", "help", "loss/term=hint"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert "Romero et al. 2015" in done.stdout
    assert not re.search(r"\| +(torch|transformers|hydra|lightning)\b", done.stderr)


def test_the_help_of_a_verb_leads_to_it_and_mistakes_are_told(kdlab):
    assert "kdlab help loss/term=hint" in kdlab("distill", "--help")[1]
    code, out, _ = kdlab("help", "loss/term=kl")
    assert code == 0 and "Hinton" in out
    for words, told in (
        (["loss/terms"], "'loss/terms' is no command, group or key. Did you mean `kdlab help loss/term`?"),
        (["loss/term=k"], "'k' is no option of loss/term; there are ab,"),
        (["loss", "kd"], "kdlab help loss/term=hint"),
    ):
        code, _, err = kdlab("help", *words)
        assert code == 2 and told in err


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("data", "`kdlab help guide/data` or `kdlab help datamodule`?"),
        ("sweeps", "`kdlab help guide/sweeps`"),
        ("limits", "`kdlab help guide/limits`"),
    ],
)
def test_a_page_of_the_guide_and_a_longer_name_of_a_group_are_offered(word, meant):
    with pytest.raises(UserError, match=re.escape(f"'{word}' is no command, group or key. Did you mean {meant}")):
        explain([word], conf())


@pytest.mark.slow
def test_help_takes_commands():
    for verb in VERBS:
        assert explain([verb], conf()).startswith(f"kdlab {verb} [overrides]")


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("verb", VERBS)
def test_help_takes_every_key_of_every_command(verb):
    with initialize_config_dir(str(conf()), version_base="1.3"):
        cfg = compose(verb)
    keys = [key for key in leaves(cfg) if not OmegaConf.is_dict(child_at(cfg, key))]
    assert keys
    for key in keys:
        text = explain([key], conf())
        assert f"\n{key}: " in f"\n{text}" and "Set it:" in text


def child_at(cfg, key):
    node = cfg
    for name in key.split("."):
        node = node._get_node(name)
    return node


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("optimizer.lr", ("learning rate", "a number from 0 up", "optimizer=adamw", "5.0e-5", "-m optimizer.lr=A,B")),
        ("freeze.layers", ("freeze=bottom", "2")),
        ("runs", ("kdlab runs [overrides]", "# where to write")),
        ("cluster.threads", ("torch threads",)),
        ("loss.terms.hint.taps", ("{student: hidden.-1, teacher: hidden.-1}",)),
        ("experiment=movie_reviews", ("Chooses:", "model@student=minilm_l6")),
        (
            "datamodule=pairs",
            ("Chooses:   task=seq2seq", "task=seq2seq chooses metric=[causal_lm", "model@teacher.model=seq2seq_tiny"),
        ),
    ],
)
def test_what_help_says(word, says):
    text = explain([word], conf())
    assert all(part in text for part in says), text
    assert "override /" not in text


def test_a_key_of_a_command_that_does_not_train_names_the_others_of_its_name():
    text = explain(["temperature"], conf())
    assert "kdlab predict temperature=VALUE" in text and "kdlab help loss.temperature" in text


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lr", "kdlab help optimizer.lr"),
        ("optimiser", "kdlab help optimizer"), ("trainer.max_epoch", "kdlab help trainer.max_epochs"),
        ("loss=kdd", "loss=kd?"), ("distil", "kdlab help distill"),
    ],
)  # fmt: skip
def test_help_suggests_what_was_meant(word, meant):
    with pytest.raises(UserError, match=re.escape(meant)):
        explain([word], conf())


def test_a_description_is_not_given_twice():
    text = explain(["datamodule=table"], conf())
    assert text.count("unlabelled.\n") == 1
