"""`kdlab help guide`: every page of the guide is listed, and shown as plain text."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile

import pytest
from documents import GUIDE, ROOT, blocks

from kdlab.error import UserError
from kdlab.help.guide import WIDTH, guide, rendered

NAMES = [path.stem for path in GUIDE]


def test_every_page_is_listed_with_what_its_reader_can_do():
    listed = guide("guide")
    assert re.findall(r"^  (\w+) ", listed, re.MULTILINE) == NAMES
    assert re.search(r"^  data +Train, distil and compare models on a table of your own", listed, re.MULTILINE)


@pytest.mark.parametrize("path", GUIDE, ids=lambda path: path.stem)
def test_every_page_is_shown_as_plain_text(path):
    text = guide(f"guide/{path.stem}")
    code = {line for block in blocks(path) for line in block.splitlines()}
    assert all(f"    {line}".rstrip() in text for line in code)
    lines = [line for line in text.splitlines() if line.removeprefix("    ") not in code]
    assert not [line for line in lines if len(line) > WIDTH]
    assert not re.search(r"\]\(|^#|<!--|```|\*\*", re.sub("`.*?`", "", "\n".join(lines), flags=re.DOTALL), re.MULTILINE)
    assert guide(f"guide/{path.name}") == text


def test_links_are_commands_addresses_or_names():
    text = (
        "See [data](data.md#splits), [Hydra](https://hydra.cc), [arXiv:1](https://arxiv.org/abs/1), [`x.py`](../x.py)."
    )
    assert rendered(text) == "See data (`kdlab help guide/data`), Hydra (https://hydra.cc), arXiv:1, `x.py`."


def test_tables_and_lists_keep_their_cells():
    lines = rendered("| a | b |\n|---|---|\n| `x` | 1 |\n\n- one\n- two\n").splitlines()
    assert [line.split() for line in lines if line.strip(" ─")] == [
        ["a", "b"],
        ["`x`", "1"],
        ["•", "one"],
        ["•", "two"],
    ]


@pytest.mark.parametrize(
    ("topic", "meant"), [("guide/sweep", "kdlab help guide/sweeps"), ("guide/owndata", ""), ("guide/../help", "")]
)
def test_an_unknown_page_is_a_sentence(topic, meant):
    with pytest.raises(UserError, match="The guide has no page") as caught:
        guide(topic)
    assert (f"Did you mean `{meant}`?" in str(caught.value)) == bool(meant)
    assert ", ".join(NAMES) in str(caught.value)


def test_the_command_answers_at_once_and_fails_in_one_line():
    words = [sys.executable, "-X", "importtime", "-m", "kdlab", "help", "guide/data"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.startswith("Your own data\n=====")
    assert not re.search(r"\| +(torch|transformers|hydra|lightning)\b", done.stderr)
    done = subprocess.run(
        [sys.executable, "-m", "kdlab", "help", "guide/dta"], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "guide/data" in done.stderr


def test_the_wheel_has_the_guide(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".md")}
    assert held == {f"kdlab/guide/{path.name}" for path in GUIDE}
