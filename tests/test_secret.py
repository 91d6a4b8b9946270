"""A secret that was given in the wrong place is written down nowhere."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.secret import HIDDEN, masked

SECRET = "5ecret-0f-mine"
KEYS = [
    "api_key",
    "apikey",
    "API_KEY",
    "hf_token",
    "token",
    "client_secret",
    "password",
    "db-password",
    "aws_access_key",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("place", ["{}", "+logger.wandb.{}", "a.b.{}"])
def test_values_of_such_keys_are_hidden(key, place):
    assert masked({"a": [{key: SECRET}]}) == {"a": [{key: HIDDEN}]}
    word = f"{place.format(key)}={SECRET}"
    assert SECRET not in masked(word)
    assert masked(word).startswith(place.format(key))


@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql", "https"])
def test_passwords_in_addresses_are_hidden(scheme):
    hidden = masked(f"hydra.sweeper.storage={scheme}://me:{SECRET}@host:5432/db")
    assert hidden == f"hydra.sweeper.storage={scheme}://{HIDDEN}@host:5432/db"


@pytest.mark.parametrize(
    "plain",
    ["datamodule.tokens_per_batch=3", "student.tokenizer=x", "sort=key", "a@b.c:d", "http://host/a@b"],
)
def test_other_values_stay(plain):
    assert masked(plain) == plain
    assert masked({"key": plain, "tokens": 3, "tokenizer": plain}) == {"key": plain, "tokens": 3, "tokenizer": plain}


@given(
    st.recursive(
        st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_no_text_stays(value):
    assert masked(value) == value


def test_no_file_has_a_secret_of_the_command_line(kdlab, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = kdlab("finetune", *tiny["finetune"], f"+logger.wandb.api_key={SECRET}", "logger=wandb")
    assert code == 2
    assert SECRET not in out
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_run_writes_down_what_is_hidden(tmp_path, monkeypatch):
    import sys

    from kdlab.artifact.run import claim

    monkeypatch.setattr(sys, "argv", ["kdlab", f"+logger.wandb.api_key={SECRET}"])
    with claim(tmp_path / "run") as run:
        run.begin({"seed": 0, "logger": {"api_key": SECRET}}, [f"+logger.wandb.api_key={SECRET}"])
    for path in Path(tmp_path).rglob("*"):
        assert not path.is_file() or SECRET not in path.read_text(), path
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["command"][1].endswith(f"={HIDDEN}")
