"""No file that is loaded runs code: not a checkpoint, not weights, not stored targets, not a tokenizer."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdlab.file import sha256

MARK = "executed"


class Bomb:
    """Unpickling it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark.absolute())

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (self.mark,)


def one(pattern: str) -> Path:
    (path,) = Path("outputs").glob(pattern)
    return path


def test_the_bomb_is_one(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / MARK)))
    assert (tmp_path / MARK).exists()


def checkpoint(write: Callable[[Bomb, Path], None]) -> list[str]:
    one("distill/*/done.json").unlink()
    write(Bomb(Path(MARK)), one("distill/*/checkpoints/last.ckpt"))
    return []


def raw_checkpoint() -> list[str]:
    return checkpoint(lambda bomb, path: path.write_bytes(pickle.dumps(bomb)))


def whole_checkpoint() -> list[str]:
    content = torch.load(one("distill/*/checkpoints/last.ckpt"), weights_only=True)
    return checkpoint(lambda bomb, path: torch.save(content | {"bomb": bomb}, path))


def best_checkpoint() -> list[str]:
    one("distill/*/done.json").unlink()
    path = one("distill/*/checkpoints/best.ckpt")
    torch.save(torch.load(path, weights_only=True) | {"bomb": Bomb(Path(MARK))}, path)
    return []


def weights() -> list[str]:
    shutil.copytree(one("finetune/*/model"), "foreign")
    Path("foreign/model.safetensors").unlink()
    torch.save({"classifier.weight": Bomb(Path(MARK))}, "foreign/pytorch_model.bin")
    return ["teacher.run=foreign"]


def model_code() -> list[str]:
    shutil.copytree(one("finetune/*/model"), "foreign")
    config = json.loads(Path("foreign/config.json").read_text())
    classes = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    Path("foreign/config.json").write_text(json.dumps(config | {"auto_map": classes, "model_type": "own"}))
    Path("foreign/own.py").write_text(f"import os\nos.mkdir({str(Path(MARK).absolute())!r})\n")
    return ["teacher.run=foreign"]


def tokenizer_code() -> list[str]:
    shutil.copytree(one("finetune/*/model"), "foreign")
    config = json.loads(Path("foreign/tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["own.Words", "own.Words"]}, "tokenizer_class": "OwnWords"}
    Path("foreign/tokenizer_config.json").write_text(json.dumps(config))
    Path("foreign/config.json").unlink()
    Path("foreign/own.py").write_text(f"import os\nos.mkdir({str(Path(MARK).absolute())!r})\n")
    return ["student.tokenizer=foreign"]


@pytest.mark.sampled(2, tried="all")
@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (raw_checkpoint, "last.ckpt cannot be read"),
        (whole_checkpoint, "last.ckpt cannot be read"),
        (best_checkpoint, "best.ckpt cannot be read"),
        (weights, "'foreign' cannot be read"),
        (model_code, "'foreign'"),
        (tokenizer_code, "'foreign'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_code_in_a_file_is_not_run(kdlab, tiny, base, prepare, says):
    shutil.copytree(base / "outputs", "outputs")
    code, _, err = kdlab("distill", *tiny["distill"], "logger=none", *prepare())
    assert not Path(MARK).exists()
    assert code == 2
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert err.strip().endswith(line) and "Traceback" not in err
    assert says in line


@pytest.mark.slow
@pytest.mark.parametrize("raw", [True, False])
def test_code_in_stored_targets_is_not_run_but_built_over(kdlab, tiny, base, raw):
    shutil.copytree(base / "outputs", "outputs")
    one("distill/*/done.json").unlink()
    path, meta = one("store/*/logits.npy"), one("store/*/meta.json")
    good = path.read_bytes()
    if raw:
        path.write_bytes(pickle.dumps(Bomb(Path(MARK))))
    else:
        np.save(path, np.array([Bomb(Path(MARK))], dtype=object), allow_pickle=True)
    known = json.loads(meta.read_text())
    meta.write_text(json.dumps(known | {"files": known["files"] | {"logits.npy": sha256(path)}}))
    code, out, err = kdlab("distill", *tiny["distill"], "logger=none")
    assert not Path(MARK).exists()
    assert code == 0, err
    assert "are damaged" in out
    assert path.read_bytes() == good


@pytest.mark.slow
def test_code_in_cached_rows_is_not_run_but_written_over(kdlab, tiny, cache):
    assert kdlab("finetune", *tiny["finetune"], "logger=none")[0] == 0
    rows = {path: path.read_bytes() for path in cache.glob("rows/*/tokens.npy")}
    for path in rows:
        path.write_bytes(pickle.dumps(Bomb(Path(MARK))))
    assert kdlab("finetune", *tiny["finetune"], "logger=none", "seed=1")[0] == 0
    assert not Path(MARK).exists()
    assert any(path.read_bytes() == content for path, content in rows.items())
