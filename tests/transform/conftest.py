"""The tiny models of tests/model, here too."""

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location("tiny_models", Path(__file__).parents[1] / "model/conftest.py")
TINY = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TINY)
FAMILY, batch, labels, make, make_mlp, tokenizer = (
    getattr(TINY, name) for name in ("FAMILY", "batch", "labels", "make", "make_mlp", "tokenizer")
)
