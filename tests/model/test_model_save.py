import os

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from kdlab.error import UserError
from kdlab.model.save import load, save, size_bytes, tokenizer_fingerprint, weights_sha256

FAMILIES = ["bert", "distilbert", "roberta", "gpt2"]


class Plain(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.low, self.norm, self.high = nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(4, width)
        self.high.weight = self.low.weight

    def forward(self, value):
        return self.high(self.norm(self.low(value)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_comes_back_bit_by_bit(family, make, tokenizer, batch, tmp_path):
    model = make(family)
    save(model, tokenizer, tmp_path / "run" / "model")
    again, words = load(tmp_path / "run" / "model")
    assert not again.training
    assert weights_sha256(again) == weights_sha256(model)
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    assert again.config.id2label == model.config.id2label
    assert tokenizer_fingerprint(words) == tokenizer_fingerprint(tokenizer)


@pytest.mark.parametrize("mask", [0o022, 0o007, 0o077])
def test_saved_files_follow_the_umask(mask, tokenizer, make, tmp_path):
    before = os.umask(mask)
    try:
        folder = save(make("bert"), tokenizer, tmp_path / "m")
        plain = save(Plain(), None, tmp_path / "n")
    finally:
        os.umask(before)
    files = [*folder.iterdir(), *plain.iterdir()]
    assert {file.name for file in files} >= {"model.safetensors", "config.json", "tokenizer.json"}
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {oct(0o666 & ~mask)}


@pytest.mark.parametrize("input", ["bag", "embedding"])
def test_an_mlp_comes_back_too(input, make_mlp, tokenizer, tmp_path):
    model = make_mlp(3, input)
    assert weights_sha256(load(save(model, tokenizer, tmp_path / "m"))[0]) == weights_sha256(model)


def test_the_tokenizer_of_a_plain_module_is_kept(tokenizer, tmp_path):
    _, words = load(save(Plain(), tokenizer, tmp_path / "m"), build=Plain)
    assert tokenizer_fingerprint(words) == tokenizer_fingerprint(tokenizer)


def test_a_tokenizer_is_saved_as_it_was_before_its_last_call(tokenizer, tmp_path):
    fresh = save(Plain(), tokenizer, tmp_path / "fresh") / "tokenizer.json"
    tokenizer(["a long text", "b"], truncation=True, max_length=3, padding=True)
    used = save(Plain(), tokenizer, tmp_path / "used") / "tokenizer.json"
    assert used.read_bytes() == fresh.read_bytes()


def test_a_plain_module_comes_back_through_build_with_buffers_and_tied_weights(tmp_path):
    model = Plain()
    model(torch.randn(8, 4))
    save(model, None, tmp_path / "m")
    assert [file.name for file in (tmp_path / "m").iterdir()] == ["model.safetensors"]
    again, words = load(tmp_path / "m", build=Plain)
    assert words is None
    assert again.high.weight is again.low.weight
    assert weights_sha256(again) == weights_sha256(model)


def test_a_head_of_ones_own_comes_back_through_build_only(make, tokenizer, batch, tmp_path):
    def build():
        model = make("bert")
        torch.manual_seed(torch.initial_seed() + 1)
        model.classifier = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
        return model

    model = build()
    save(model, tokenizer, tmp_path / "m")
    model.classifier[0].weight.data.normal_()
    save(model, tokenizer, tmp_path / "m")
    again, _ = load(tmp_path / "m", build=build)
    assert torch.equal(again(**batch).logits, model.eval()(**batch).logits)
    with pytest.raises(UserError, match="build="):
        load(tmp_path / "m")
    with pytest.raises(UserError, match="do not fill"):
        load(tmp_path / "m", build=lambda: make("bert"))


def test_saving_again_replaces_the_whole_and_leaves_no_scraps(make, tokenizer, tmp_path):
    save(make("bert"), tokenizer, tmp_path / "m")
    (tmp_path / "m" / "scrap").touch()
    save(make("gpt2"), tokenizer, tmp_path / "m")
    assert load(tmp_path / "m")[0].config.model_type == "gpt2"
    assert not (tmp_path / "m" / "scrap").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_crash_while_saving_leaves_the_old_model(make, tokenizer, tmp_path, monkeypatch):
    model = make("bert")
    save(model, tokenizer, tmp_path / "m")
    before = weights_sha256(model)
    model.classifier.weight.data.zero_()
    monkeypatch.setattr(tokenizer, "save_pretrained", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(model, tokenizer, tmp_path / "m")
    assert weights_sha256(load(tmp_path / "m")[0]) == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("content", [b"", b"\xff" * 300, None], ids=["empty", "noise", "missing"])
@pytest.mark.parametrize("whole", [True, False], ids=["transformers", "plain"])
def test_corrupt_weights_are_one_sentence(content, whole, make, tokenizer, tmp_path):
    folder = save(make("bert") if whole else Plain(), tokenizer, tmp_path / "m")
    file = folder / "model.safetensors"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(UserError) as told:
        load(folder, build=None if whole else Plain)
    assert "\n" not in str(told.value)


def test_a_corrupt_tokenizer_a_missing_folder_and_another_shape_are_told(make, tokenizer, tmp_path):
    folder = save(make("bert"), tokenizer, tmp_path / "m")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="tokenizer"):
        load(folder)
    with pytest.raises(UserError, match="no saved model"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match="do not fill"):
        load(save(Plain(), None, tmp_path / "p"), build=lambda: Plain(5))


def test_size_is_that_of_the_weights(make, tokenizer, tmp_path):
    model = make("bert")
    bits = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert bits <= size_bytes(save(model, tokenizer, tmp_path / "m")) < 2 * bits + 20_000


def test_the_weights_hash_sees_one_bit_a_name_and_nothing_else(make):
    model = make("bert")
    first = weights_sha256(model)
    assert weights_sha256(make("bert").train()) == first
    model.classifier.bias.data[0] = torch.nextafter(model.classifier.bias.data[0], torch.tensor(1.0))
    assert weights_sha256(model) != first
    assert weights_sha256(make("bert").to(torch.bfloat16)) != first


def test_the_tokenizer_fingerprint_sees_words_and_special_tokens(tokenizer):
    def variant(**special):
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **special)

    same = variant(pad_token="[PAD]", unk_token="[UNK]")
    assert tokenizer_fingerprint(same) == tokenizer_fingerprint(tokenizer)
    assert tokenizer_fingerprint(variant(pad_token="a", unk_token="[UNK]")) != tokenizer_fingerprint(tokenizer)
    more = variant(pad_token="[PAD]", unk_token="[UNK]")
    more.add_tokens(["unheard"])
    assert tokenizer_fingerprint(more) != tokenizer_fingerprint(tokenizer)
