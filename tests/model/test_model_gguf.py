"""GGUF files: converted once into a directory that is read like any other."""

import sys

import pytest
import torch
from gguf_file import write_gguf
from transformers import AutoModelForCausalLM

from kdlab.datamodule.tokenizer import load
from kdlab.error import UserError
from kdlab.model import gguf
from kdlab.model.hf import hf
from kdlab.model.pretrained import resolve

pytest.importorskip("gguf")
pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_it_becomes_a_directory_with_a_model_and_its_tokenizer(file):
    folder = resolve(str(file), False)
    assert folder == resolve(str(file), False) and (file.parent / folder).is_dir()
    tokenizer = load(str(file), [])
    text = "the thin café 电影"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    model = hf(str(file), tokenizer, [], task="causal_lm").eval()
    assert model.dtype == torch.float32 and "quantization_config" not in model.config.to_dict()
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16
    assert model.lm_head.weight is model.get_input_embeddings().weight
    direct = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    rounded = hf(str(file), tokenizer, [], task="causal_lm", pretrained=False).eval()
    rounded.load_state_dict({name: value.bfloat16().float() for name, value in direct.state_dict().items()})
    assert torch.equal(model(ids).logits, rounded(ids).logits)


def test_a_later_run_needs_no_package_that_reads_it(file, monkeypatch):
    resolve(str(file), False)
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    gguf._kept.cache_clear()
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert hf(str(file), load(str(file), []), [], task="causal_lm")


def test_where_a_package_is_missing_a_sentence_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"needs gguf and accelerate: pip install 'kdlab\[lm\]'"):
        resolve(str(tmp_path / "other.gguf"), False)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no model at all" * 100])
def test_what_is_no_model_is_one_sentence(tmp_path, content):
    (tmp_path / "broken.gguf").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a causal language model"):
        resolve(str(tmp_path / "broken.gguf"), False)


def test_a_conversion_that_was_changed_is_not_used(file, tmp_path):
    other = write_gguf(tmp_path / "changed.gguf", layers=1, seed=1)
    folder = tmp_path / resolve(str(other), False)
    (folder / "config.json").write_text("{}")
    gguf._kept.cache_clear()
    with pytest.raises(UserError, match="is not as it was converted"):
        resolve(str(other), False)
