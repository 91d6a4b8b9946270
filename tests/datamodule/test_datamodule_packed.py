"""Packed rows: as few as fit, and for each text exactly what the model computes for the text alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from chats import CHATML, END, byte_level, chats
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, RobertaConfig

from kdlab.artifact import overlap
from kdlab.batch import ANSWER
from kdlab.datamodule.answered import AnsweredRow, repeated
from kdlab.datamodule.batch import EncodedRows
from kdlab.datamodule.chat import Chat
from kdlab.datamodule.packed import PackedRows, best_fit_decreasing
from kdlab.datamodule.target import Labels
from kdlab.error import UserError
from kdlab.model.tap import read
from kdlab.task.causal_lm import CausalLM
from kdlab.task.sequence_classification import SequenceClassification

SMALL = {"vocab_size": 50, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
CONFIGS = {
    "absolute": GPT2Config(n_embd=16, n_head=2, n_layer=2, n_positions=64, **SMALL),
    "rotary": LlamaConfig(
        hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=2, max_position_embeddings=64,
        **SMALL,
    ),
    "after padding": RobertaConfig(
        hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=2, max_position_embeddings=66,
        is_decoder=True, **SMALL,
    ),
}  # fmt: skip


def rows(lengths: list[int], seed: int = 0) -> PackedRows:
    """Texts of some lengths, and all of them packed into rows of 24 tokens."""
    draw = np.random.default_rng(seed)
    made = [AnsweredRow(draw.integers(3, 50, size).tolist(), [False] * 2 + [True] * (size - 2)) for size in lengths]
    inner = repeated(made, len(made), 1)
    return PackedRows(inner, best_fit_decreasing(np.array(lengths), 24), 1)


def batch(encoded, index: np.ndarray):
    return EncodedRows(encoded, Labels((), np.full(len(encoded), -1))).batch(index)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_packed_logits_and_losses_are_those_of_the_texts_alone(kind, attention):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind], attn_implementation=attention).eval()
    for parameter in model.parameters():
        parameter.data *= 4
    packed = rows([9, 5, 14, 3, 20, 7, 11])
    assert 1 < len(packed) < 7
    together, alone = batch(packed, np.arange(len(packed))), batch(packed.inner, np.arange(7))
    with torch.no_grad():
        found, _ = read(model, together)
        expected, _ = read(model, alone)
    members = np.concatenate(packed.members)
    flat = found[together.tokens]
    begin = 0
    for member in members.tolist():
        size = int(packed.inner.lengths[member])
        torch.testing.assert_close(flat[begin : begin + size], expected[member, :size], rtol=1e-4, atol=1e-4)
        begin += size
    task = CausalLM()
    one, two = task.frame(found, together), task.frame(expected, alone)
    assert int(one.mask.sum()) == int(two.mask.sum()) == together.size["tokens"] == alone.size["tokens"]
    torch.testing.assert_close(task.supervised(one, together), task.supervised(two, alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", CONFIGS)
def test_under_autocast_packing_adds_less_error_than_the_precision(kind, dtype):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()
    for parameter in model.parameters():
        parameter.data *= 4
    packed = rows([9, 5, 14, 3, 20, 7, 11])
    members, sizes = np.concatenate(packed.members), packed.inner.lengths
    with torch.no_grad():
        exact, _ = read(model, batch(packed.inner, members))
        with torch.autocast("cpu", dtype):
            together, _ = read(model, found := batch(packed, np.arange(len(packed))))
            alone, _ = read(model, batch(packed.inner, members))
    flat = together[found.tokens].float()
    exact, alone = (torch.cat([one[n, : sizes[m]] for n, m in enumerate(members)]).float() for one in (exact, alone))
    assert flat.isfinite().all()
    assert (flat - alone).abs().max() <= 2 * (alone - exact).abs().max()


def test_no_gradient_flows_from_one_text_to_another():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS["absolute"]).eval()
    found = batch(rows([9, 5, 8]), np.array([0]))
    embedded = model.get_input_embeddings()(found.inputs["input_ids"]).detach().requires_grad_()
    others = {name: value for name, value in found.inputs.items() if name != "input_ids"}
    place = found.inputs["position_ids"][0]
    second = int((place == 0).nonzero()[1])
    model(inputs_embeds=embedded, **others).logits[0, second:].sum().backward()
    assert not embedded.grad[0, :second].any()
    assert embedded.grad[0, second:].any()


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), capacity=st.integers(1, 30))
def test_bins_hold_all_rows_once_and_no_two_fit_together(lengths, capacity):
    found = best_fit_decreasing(np.array(lengths), capacity)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    sums = [sum(lengths[one] for one in each) for each in found]
    assert all(total <= capacity or len(each) == 1 for total, each in zip(sums, found, strict=True))
    fewest = -(-sum(min(one, capacity) for one in lengths) // capacity)
    assert len(found) <= max(1, 2 * fewest), "at most twice the fewest: two half empty bins would have been one"


def test_rows_of_one_text_are_an_ordinary_batch():
    packed = rows([24, 24])
    found = batch(packed, np.array([0, 1]))
    assert set(found.inputs) == {"input_ids", "attention_mask"}
    assert found.target[ANSWER].sum() == packed.predictions.sum()


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("packed")
    byte_level(CHATML, END).save_pretrained(folder / "tokenizer")
    return {"path": str(chats(folder / "chats.jsonl")), "tokenizer": str(folder / "tokenizer")}


def data(words: dict[str, str], **given) -> Chat:
    found = Chat(**words, **{"batch_size": 4, "max_length": 120, "split_seed": 3} | given)
    found.setup()
    return found


def test_a_data_set_packs_the_rows_that_train_and_measures_the_same_texts(words):
    apart, packed = data(words), data(words, pack=True)
    assert len(packed.splits["train"]) < len(apart.splits["train"])
    assert sorted(packed.contents("train")) == sorted(apart.contents("train"))
    assert packed.test_set == apart.test_set
    assert np.array_equal(overlap.training(packed), overlap.training(apart)), "a student finds what its teacher read"
    overlap.check("a teacher", overlap.training(packed), packed)
    with pytest.raises(UserError, match="was trained on"):
        overlap.check("a teacher", overlap.training(packed), data(words, pack=True, split_seed=4))
    assert packed.fingerprint != apart.fingerprint
    assert data(words, pack=True).fingerprint == packed.fingerprint
    assert data(words, pack=True, train_rows=20).fingerprint != packed.fingerprint, "other rows are packed otherwise"
    totals = [int(one.encoded_rows().rows.predictions[one.splits["train"]].sum()) for one in (apart, packed)]
    assert totals[0] == totals[1]
    assert "are packed into" in packed.notices[-1]
    step = next(iter(packed.train_dataloader()))
    assert step.inputs["attention_mask"].shape == (len(step), 1, step.length, step.length)
    assert int(CausalLM().frame(torch.zeros(len(step), step.length, 2), step).mask.sum()) == step.size["tokens"]
    assert set(next(iter(packed.val_dataloader())).inputs) == {"input_ids", "attention_mask"}


def test_what_is_about_single_texts_is_refused(words):
    packed = data(words, pack=True)
    with pytest.raises(UserError, match="a row has no value of 'mood'"):
        packed.column("mood")
    with pytest.raises(UserError, match="which task=sequence_classification cannot tell apart"):
        SequenceClassification().check_data(packed)
    with pytest.raises(UserError, match=r"datamodule\.budget is about single texts"):
        data(words, pack=True, budget=3)
    CausalLM().check_data(packed)
    with pytest.raises(UserError, match="nothing can be generated"):
        CausalLM().generate(torch.nn.Linear(1, 1), next(iter(packed.train_dataloader())), None)
    assert Path(words["path"]).exists()
