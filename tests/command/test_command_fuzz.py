"""Every reader of stored files, given files that were cut, altered or made up: it works, or says UserError."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_command_safe import MARK, Bomb

from kdlab.artifact.run import read_done
from kdlab.artifact.trained import Trained, named, read_labels, taught_by
from kdlab.config.stored import read_config
from kdlab.config.trust import Trust
from kdlab.error import UserError
from kdlab.file import sha256
from kdlab.fit import resume
from kdlab.launcher.sweep import members
from kdlab.model.save import load_tokenizer
from kdlab.report.page import page
from kdlab.report.read import STATES, record
from kdlab.store.store import _checked, opened

many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
few = settings(many, max_examples=15)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=12), inside, max_size=4),
    max_leaves=12,
)
DEEP = ["[" * 100_000, '{"a":' * 100_000, "a: " * 50, "- " * 50_000, "a: &a [*a]", "x" * 10_000]


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory) -> Path:
    """A copy of finished runs that tests may damage, if they put back what they found."""
    outputs = tmp_path_factory.mktemp("fuzz") / "outputs"
    shutil.copytree(base / "outputs", outputs)
    return outputs


def only(runs: Path, pattern: str) -> Path:
    (found,) = runs.glob(pattern)
    return found


@contextmanager
def instead(path: Path, content: bytes) -> Iterator[None]:
    good = path.read_bytes() if path.exists() else None
    path.write_bytes(content)
    try:
        yield
    finally:
        if good is None:
            path.unlink()
        else:
            path.write_bytes(good)


@st.composite
def damaged(draw: Any, whole: bytes) -> bytes:
    """The bytes, cut, with some replaced, or with something put in."""
    begin = draw(st.integers(0, len(whole)))
    end = draw(st.integers(begin, min(len(whole), begin + 40)) | st.just(len(whole)))
    return whole[:begin] + draw(st.binary(max_size=30)) + whole[end:]


def made_up() -> st.SearchStrategy[bytes]:
    return plain.map(lambda value: json.dumps(value).encode()) | st.sampled_from([text.encode() for text in DEEP])


def works_or_says(read: Callable[[], Any]) -> Any:
    try:
        value = read()
    except UserError as told:
        assert "\n" not in str(told).strip()
        assert len(str(told)) < 2000
        return None
    finally:
        assert not Path(MARK).exists()
    return value


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "config": ("distill/*/config.yaml", read_config),
    "config of a model": ("distill/*/config.yaml", Trust().read),
    "done": ("distill/*/done.json", read_done),
    "done of a teacher": ("finetune/*/done.json", lambda run: named(str(run), run.parent.parent)),
    "labels": ("finetune/*/model/labels.json", read_labels),
    "metrics": ("finetune/*/metrics.json", lambda run: Trained(run, run / "model", "x").metrics),
    "teacher": ("distill/*/teacher.json", taught_by),
    "sweep": ("distill/*/sweep.json", lambda run: members(run.parent, "x")),
}


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("name", READERS)
@many
@given(data=st.data())
def test_small_files(runs, name, data):
    pattern, read = READERS[name]
    folder = only(runs, pattern.rpartition("/")[0])
    path = folder / pattern.rpartition("/")[2]
    whole = path.read_bytes() if path.exists() else b'{"sweep": "x", "folder": "y"}'
    with instead(path, data.draw(damaged(whole) | made_up())):
        works_or_says(lambda: read(folder))


@pytest.mark.slow
@many
@given(data=st.data())
def test_a_config_with_made_up_nodes(runs, data):
    """What is well-formed, and not what it should be."""
    folder = only(runs, "distill/*")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    key = data.draw(st.sampled_from(sorted(config)))
    config[key] = data.draw(plain)
    with instead(folder / "config.yaml", json.dumps(config).encode()):
        works_or_says(lambda: Trust().read(folder))
        works_or_says(lambda: Trained(folder, folder / "model", "x").labels)
        assert record(folder).state in STATES


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.json", "history.csv", "done.json", "failed.json", "sweep.json", "environment.json"]
)
@few
@given(data=st.data())
def test_the_report_of_a_damaged_run(runs, name, data):
    """The page is written with the others, whatever stands in one run's files."""
    folder = only(runs, "distill/*")
    path = folder / name
    whole = path.read_bytes() if path.exists() else b'{"error": "x", "sweep": "y"}'
    with instead(path, data.draw(damaged(whole) | made_up())):
        found = [record(folder), record(only(runs, "finetune/*"))]
        text = page(found, "test/accuracy", "t", "p")
    assert text.endswith("</html>\n")
    assert text.count("<script") == text.count("</script") == 2


@few
@given(data=st.data())
def test_checkpoints(runs, data):
    path = only(runs, "distill/*/checkpoints/last.ckpt")
    bomb = pickle.dumps(Bomb(Path(MARK)))
    with instead(path, data.draw(damaged(path.read_bytes()) | st.binary(max_size=200) | st.just(bomb))):
        works_or_says(lambda: resume.read_checkpoint(path, resume.RESUMED))


@few
@given(data=st.data())
def test_stores(runs, data):
    """Also where whoever altered a file has altered its checksum with it."""
    folder = only(runs, "store/[!.]*")
    path = folder / data.draw(st.sampled_from(["logits.npy", "lengths.npy", "meta.json"]))
    with instead(path, data.draw(damaged(path.read_bytes()) | made_up())):
        _checked.cache_clear()
        works_or_says(lambda: opened(folder))
        meta = json.loads((folder / "meta.json").read_text()) if path.name != "meta.json" else None
        if meta is not None:
            meta["files"][path.name] = sha256(path)
            with instead(folder / "meta.json", json.dumps(meta).encode()):
                _checked.cache_clear()
                store = works_or_says(lambda: opened(folder))
                if store is not None:
                    rows = np.arange(len(store.offsets["row"]) - 1)
                    assert all(len(store.gather(name, rows[:4], 3)) <= 4 for name in store.arrays)
    _checked.cache_clear()


def npy(array: np.ndarray, pickles: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=pickles)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, logits=np.zeros(3))
    return stream.getvalue()


MADE_UP = {
    "objects": ("logits.npy", lambda: npy(np.array([Bomb(Path(MARK))], dtype=object), True), {}),
    "an archive": ("logits.npy", zipped, {}),
    "nothing": ("logits.npy", bytes, {}),
    "texts": ("logits.npy", lambda: npy(np.array(["a"] * 160)), {}),
    "fewer rows": ("logits.npy", lambda: npy(np.zeros((3, 2), np.float32)), {}),
    "lengths below nothing": ("lengths.npy", lambda: npy(np.array([9, -3])), {}),
    "lengths that are no numbers": ("lengths.npy", lambda: npy(np.array([0.5, 1.5])), {}),
    "a name outside": ("logits.npy", None, {"files": {"../../finetune/x.npy": "0" * 64}}),
    "an absolute name": ("logits.npy", None, {"files": {"/etc/passwd": "0" * 64}}),
    "an array that is not there": ("logits.npy", None, {"arrays": {"hidden.0": {"kind": "token", "dtype": "float32"}}}),
    "no files": ("logits.npy", None, {"files": {}}),
}


@pytest.mark.parametrize("name", MADE_UP)
def test_a_made_up_store_is_damaged(runs, name):
    file, make, told = MADE_UP[name]
    folder = only(runs, "store/[!.]*")
    path, meta = folder / file, json.loads((folder / "meta.json").read_text())
    with instead(path, make() if make else path.read_bytes()):
        meta["files"][file] = sha256(path)
        with instead(folder / "meta.json", json.dumps(meta | told).encode()):
            _checked.cache_clear()
            with pytest.raises(UserError, match="are damaged"):
                opened(folder)
    _checked.cache_clear()
    assert not Path(MARK).exists()
    assert opened(folder).arrays


@pytest.mark.sampled(1, tried=3)
@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "labels.json"]
)
@few
@given(data=st.data())
def test_model_directories(runs, file, data):
    folder = only(runs, "finetune/*")
    path = folder / "model" / file
    if not path.exists():
        pytest.skip(f"a model has no {file}")
    with instead(path, data.draw(damaged(path.read_bytes()) | made_up())):
        trained = Trained(folder, folder / "model", "x")
        works_or_says(lambda: load_tokenizer(folder / "model"))
        works_or_says(lambda: trained.model)
        works_or_says(lambda: trained.labels)


SHAPES = {"num_hidden_layers": 10**9, "vocab_size": 2**40, "hidden_size": 2**31, "max_position_embeddings": 10**12}


@pytest.mark.parametrize("key", SHAPES)
def test_a_shape_that_its_weights_cannot_fill_is_not_built(runs, key):
    """It would take the machine's memory before anything is compared."""
    folder = only(runs, "finetune/*")
    path = folder / "model" / "config.json"
    content = json.loads(path.read_text()) | {key: SHAPES[key]}
    with instead(path, json.dumps(content).encode()), pytest.raises(UserError, match=r"config\.json"):
        _ = Trained(folder, folder / "model", "x").model


def test_attention_code_of_the_hub_is_not_asked_for(runs):
    folder = only(runs, "finetune/*")
    path = folder / "model" / "config.json"
    content = json.loads(path.read_text()) | {"_attn_implementation": "someone/kernel"}
    with instead(path, json.dumps(content).encode()), pytest.raises(UserError, match="someone/kernel"):
        _ = Trained(folder, folder / "model", "x").model
