"""What the README tells people to type is what kdlab understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

import kdlab.config.identity  # noqa: F401  registers the resolvers
from kdlab.__main__ import DOCTOR, VERBS, conf
from kdlab.help.explain import explain

TEXT = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("kdlab ")]
TYPED = LINES + [line for line in re.findall(r"`(kdlab [^`]+)`", TEXT) if not line.endswith("VERB --help")]
OWN = ("+loss/term@loss.terms.mae=mae", "model@student=gru")  # the options that the README's examples add


def words(line: str) -> list[str]:
    """The verb and its overrides, without flags."""
    found = [word for word in shlex.split(line, comments=True)[1:] if not word.startswith("-") and word not in OWN]
    return found[1:] if found[:1] == list(DOCTOR) and len(found) > 1 else found


@pytest.mark.parametrize("line", [line for line in TYPED if words(line) and "=" not in words(line)[0]])
def test_every_command_composes(line):
    verb, *overrides = words(line)
    if verb == "help":
        assert not overrides or explain(overrides, conf())
        return
    assert verb in VERBS or verb in DOCTOR, f"{verb} is no command"
    if verb in DOCTOR:
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
    with initialize_config_dir(str(conf()), version_base="1.3"):
        cfg = compose(verb, [word for word in first if word not in sweeps], return_hydra_config=True)
    assert cfg.hydra.job.config_name == verb


def test_there_are_commands_to_look_at():
    assert len(LINES) > 15
    assert any("teacher.recipe" in line for line in LINES)
