import json
import logging
import os
import pickle

import pytest
import torch
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from kdlab.error import UserError
from kdlab.model.hf import hf

FAMILIES = ["bert", "distilbert", "roberta", "gpt2"]


@pytest.fixture
def saved(make, tmp_path):
    def save(family):
        make(family).save_pretrained(tmp_path / family)
        return tmp_path / family

    return save


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_labels_and_logits_are_those_of_the_directory(family, make, saved, tokenizer, labels, batch):
    model = hf(str(saved(family)), tokenizer, labels)
    assert model.training
    assert [model.config.id2label[index] for index in range(3)] == labels
    assert all(
        torch.equal(mine, theirs) for mine, theirs in zip(model.parameters(), make(family).parameters(), strict=True)
    )
    assert torch.equal(model.eval()(**batch).logits, make(family)(**batch).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_number_of_labels_gets_a_new_head_on_the_same_body(family, make, saved, tokenizer):
    model = hf(str(saved(family)), tokenizer, list("vwxyz"))
    assert model.config.num_labels == 5
    same = [
        torch.equal(a, b)
        for a, b in zip(model.base_model.parameters(), make(family).base_model.parameters(), strict=True)
    ]
    assert all(same)


def test_not_pretrained_has_the_shape_but_other_weights(saved, make, tokenizer, labels):
    model = hf(str(saved("bert")), tokenizer, labels, pretrained=False)
    theirs = make("bert").bert.embeddings.word_embeddings.weight
    assert model.bert.embeddings.word_embeddings.weight.shape == theirs.shape
    assert not torch.equal(model.bert.embeddings.word_embeddings.weight, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_reaches_every_dropout_module(family, saved, tokenizer, labels):
    model = hf(str(saved(family)), tokenizer, labels, dropout=0.25)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}


def test_half_precision_files_are_read_as_float32(make, tmp_path, tokenizer, labels):
    make("bert").half().save_pretrained(tmp_path)
    assert hf(str(tmp_path), tokenizer, labels).dtype == torch.float32


def test_a_decoder_takes_the_padding_id_of_the_tokenizer(make, tmp_path, tokenizer, labels, batch):
    model = make("gpt2")
    model.config.pad_token_id = None
    model.save_pretrained(tmp_path)
    loaded = hf(str(tmp_path), tokenizer, labels).eval()
    assert loaded.config.pad_token_id == tokenizer.pad_token_id == 0
    assert torch.equal(loaded(**batch).logits, make("gpt2")(**batch).logits)
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="[UNK]")
    with pytest.raises(UserError, match="no padding token"):
        hf(str(tmp_path), bare, labels)


def test_a_tokenizer_of_another_model_is_refused(saved, tokenizer, labels):
    bigger = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    bigger.add_tokens(["unheard"])
    with pytest.raises(UserError, match=r"19 tokens.*embeddings for 18"):
        hf(str(saved("bert")), bigger, labels)


def no_config(folder):
    (folder / "config.json").unlink()


def broken_config(folder):
    (folder / "config.json").write_text("{")


def unknown_type(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def noise_weights(folder):
    (folder / "model.safetensors").write_bytes(b"\xff" * 500)


def other_width(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 16}))


def more_layers(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))


DAMAGE = [no_config, broken_config, unknown_type, no_weights, cut_weights, noise_weights, other_width, more_layers]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda function: function.__name__)
def test_a_damaged_directory_is_one_sentence(damage, saved, tokenizer, labels):
    folder = saved("bert")
    damage(folder)
    with pytest.raises(UserError) as told:
        hf(str(folder), tokenizer, labels)
    assert "\n" not in str(told.value) and str(folder) in str(told.value)


def test_a_pickle_with_code_is_never_run(saved, tokenizer, labels, tmp_path):
    folder, mark = saved("bert"), tmp_path / "executed"

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(mark),)

    (folder / "model.safetensors").unlink()
    torch.save({"classifier.weight": Code()}, folder / "pytorch_model.bin")
    with pytest.raises(UserError):
        hf(str(folder), tokenizer, labels)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(UserError):
        hf(str(folder), tokenizer, labels)
    assert not mark.exists()


def test_a_pickle_of_tensors_is_read(saved, make, tokenizer, labels):
    folder = saved("bert")
    (folder / "model.safetensors").unlink()
    torch.save(make("bert").state_dict(), folder / "pytorch_model.bin")
    assert torch.equal(hf(str(folder), tokenizer, labels).classifier.weight, make("bert").classifier.weight)


def test_code_in_the_directory_is_never_run(saved, tokenizer, labels, tmp_path):
    folder, mark = saved("bert"), tmp_path / "executed"
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": auto}))
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    with pytest.raises(UserError):
        hf(str(folder), tokenizer, labels)
    assert not mark.exists()


def test_loading_says_nothing_and_leaves_logging_as_it_was(saved, tokenizer, capfd, caplog):
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    folder = saved("bert")
    capfd.readouterr()
    with caplog.at_level(logging.DEBUG):
        hf(str(folder), tokenizer, list("vwxyz"))
    assert capfd.readouterr() == ("", "")
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before
