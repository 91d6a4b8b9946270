"""Stored logits are those of the live teacher, to the bound of their format, however few are made at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from kdlab.batch import ANSWER, Batch
from kdlab.error import UserError
from kdlab.file import sha256
from kdlab.loss.logit.top_k_kl import coarsened_kl
from kdlab.store import logits as store_logits
from kdlab.store.build import open_or_build
from kdlab.store.inference import run_inference
from kdlab.store.logits import LogitFormat, PackedLogits, chunk_size, largest, logit_format
from kdlab.store.packed import Packing, kl_change
from kdlab.store.store import Store, _checked, opened
from kdlab.task.base import Task
from kdlab.task.causal_lm import CausalLM
from kdlab.top_k import TEMPERATURES

LENGTHS = np.array([7, 2, 5, 1, 6, 3], np.int64)
CLASSES, K = 300, 16
GROUPS = [np.array([4, 0]), np.array([3, 5, 1]), np.array([2])]


def gpt(seed: int = 0) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=CLASSES, n_embd=16, n_layer=2, n_head=2, n_positions=8)).eval()
    for parameter in model.parameters():
        parameter.data *= 4  # far from uniform
    return model


def capped() -> Gemma2ForCausalLM:
    """A model that squashes its logits after the head."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 1, "head_dim": 8, "vocab_size": CLASSES, "final_logit_softcapping": 0.01}
    return Gemma2ForCausalLM(Gemma2Config(**shape)).eval()


def batch(rows: np.ndarray) -> Batch:
    real = torch.arange(int(LENGTHS[rows].max())) < torch.from_numpy(LENGTHS[rows])[:, None]
    ids = torch.stack(
        [torch.randint(0, CLASSES, (8,), generator=torch.Generator().manual_seed(row)) for row in rows.tolist()]
    )
    ids = ids[:, : real.shape[1]] * real
    return Batch(torch.from_numpy(rows), {"input_ids": ids, "attention_mask": real.long()}, tokens=real)


def stored(folder: Path, kept: LogitFormat, model: torch.nn.Module, task: Task | None = None) -> Store:
    batches = [batch(rows) for rows in GROUPS]

    def build(numbers: Iterator[int]):
        return run_inference(model, task or CausalLM(), LENGTHS, batches, numbers, (), "float32", kept, None)

    return open_or_build(folder, "k", {"top_k": K}, LENGTHS, GROUPS, build)


@pytest.fixture(scope="module", params=["packed", "float32", "float16", "bfloat16"])
def kept(request, tmp_path_factory) -> tuple[LogitFormat, Store]:
    kept = logit_format(K, TEMPERATURES, request.param)
    return kept, stored(tmp_path_factory.mktemp(request.param), kept, gpt())


ERROR = {"float32": 1e-6, "float16": 2**-11, "bfloat16": 2**-8}


@pytest.mark.parametrize("temperature", TEMPERATURES)
@torch.no_grad()
def test_the_loss_of_stored_targets_is_that_of_a_live_teacher_to_the_bound(kept, temperature):
    rows = np.array([0, 3, 5, 2])
    data, task = batch(rows), CausalLM()
    live, student = largest(task.read(gpt(), data), None, K, TEMPERATURES), task.read(gpt(1), data)
    logits, top = kept[0].read(kept[1], rows, data.length)
    mask = live.mask
    assert torch.equal(top.index[mask], live.top.index[mask]) and torch.equal(logits, top.value)
    assert not top.index[~data.tokens].any() and not top.value[~data.tokens].any()
    one, two = (
        student.mean(coarsened_kl(student.logits, part.index, part.value, part.at(temperature), temperature))
        for part in (top, live.top)
    )
    real = live.top.map(lambda part: part[mask])
    if isinstance(kept[0], PackedLogits):
        error = Packing.read(kept[1].meta["packing"]).error(real, temperature)
    else:
        error = ERROR[kept[0].dtype] * float(real.value.abs().max()) / temperature
    assert two > 0.1
    assert abs(one - two) <= temperature**2 * kl_change(float(two) / temperature**2, error) + 1e-5
    assert abs(one - two) <= 0.01 * two


def test_all_logits_are_stored_as_they_were(tmp_path):
    kept, model = logit_format(None, TEMPERATURES, "packed"), gpt()
    rows = np.array([2, 0])
    with torch.no_grad():
        alone = CausalLM().read(model, batch(rows))
    logits, top = kept.read(stored(tmp_path, kept, model), rows, 7)
    assert top is None
    torch.testing.assert_close(logits[alone.tokens], alone.logits[alone.tokens], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [gpt, capped])
@pytest.mark.parametrize("positions", [1, 3, 1000])
def test_however_many_logits_are_made_at_a_time_the_store_is_the_same(tmp_path, monkeypatch, model, positions):
    kept = logit_format(K, TEMPERATURES, "float32")
    monkeypatch.setattr(store_logits, "CHUNK_BYTES", {"cpu": 4 * CLASSES * positions})
    found, whole = stored(tmp_path / "a", kept, model()), stored(tmp_path / "b", kept, model(), Whole())
    assert found.arrays.keys() == whole.arrays.keys() == {"logits", "index", "tail"}
    for name, array in found.arrays.items():
        np.testing.assert_allclose(array, whole.arrays[name], rtol=1e-4, atol=1e-5)


class Whole(CausalLM):
    """The task that makes all logits of a batch at once."""

    def in_parts(self, model: torch.nn.Module) -> Whole:
        return self


@pytest.mark.parametrize("chunk", [None, 2])
def test_never_all_logits_of_a_batch_at_once(tmp_path, monkeypatch, chunk):
    seen: list[int] = []
    linear = torch.nn.functional.linear

    def counted(inputs: torch.Tensor, weight: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        seen.extend([inputs.shape[:-1].numel()] if len(weight) == CLASSES else [])
        return linear(inputs, weight, *more)

    monkeypatch.setattr(store_logits, "CHUNK_BYTES", {"cpu": 4 * CLASSES * 4})
    model, task = gpt(), CausalLM(chunk=chunk)
    task = task.in_parts(model)
    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    stored(tmp_path, logit_format(K, TEMPERATURES, "packed"), model, task)
    assert max(seen) == (chunk or 4) and sum(seen) == sum(LENGTHS - 1)


def test_a_chunk_is_never_empty():
    assert chunk_size(2**30, torch.device("cpu")) == 1
    assert chunk_size(49_152, torch.device("cuda")) > chunk_size(49_152, torch.device("cpu")) == 85


@pytest.mark.parametrize(
    "change", [{"k": K + 8}, {"classes": 2**20}, {"temperatures": [1.0]}, {"k": "many"}, {"k": 400}, None]
)
def test_a_store_whose_lines_do_not_fit_its_description_is_damaged(tmp_path, change):
    kept = logit_format(K, TEMPERATURES, "packed")
    folder = stored(tmp_path, kept, gpt()).folder
    meta = json.loads((folder / "meta.json").read_text())
    meta["packing"] = meta["packing"] | change if change else None
    (folder / "meta.json").write_text(json.dumps(meta))
    _checked.cache_clear()
    with pytest.raises(UserError, match="are damaged"):
        opened(folder)
    assert kept.read(stored(tmp_path, kept, gpt()), np.array([0]), 7)[1] is not None, "built again"


def test_lines_that_were_cut_are_damaged(tmp_path):
    folder = stored(tmp_path, logit_format(K, TEMPERATURES, "packed"), gpt()).folder
    path, meta = folder / "logits.npy", json.loads((folder / "meta.json").read_text())
    np.save(path, np.load(path)[:, :-1])
    meta["files"]["logits.npy"] = sha256(path)
    (folder / "meta.json").write_text(json.dumps(meta))
    _checked.cache_clear()
    with pytest.raises(UserError, match="no lines of packed logits"):
        opened(folder)


def answered(rows: np.ndarray) -> Batch:
    """Rows whose answers are some tokens in the middle and at the end; one row has none."""
    found = batch(rows)
    place = torch.arange(found.length)
    answer = (
        found.tokens & ((place + torch.from_numpy(rows)[:, None]) % 3 == 0) & (torch.from_numpy(rows) != 5)[:, None]
    )
    return replace(found, target={ANSWER: answer})


def kept_of_answers(folder: Path, kept: LogitFormat, asked: bool) -> Store:
    batches = [answered(rows) for rows in GROUPS]

    def build(numbers: Iterator[int]):
        return run_inference(gpt(), CausalLM(), LENGTHS, batches, numbers, (), "float32", kept, None, asked)

    return open_or_build(folder, "k", {"top_k": K}, LENGTHS, GROUPS, build)


@pytest.mark.parametrize("k, dtype", [(None, "float32"), (K, "packed"), (K, "float16")])
def test_of_answers_alone_the_same_is_read_as_from_a_store_of_all_tokens(tmp_path, k, dtype):
    kept = logit_format(k, TEMPERATURES, dtype)
    some, every = (kept_of_answers(tmp_path / str(asked), kept, asked) for asked in (True, False))
    for rows in (np.array([0, 3, 5, 2]), np.array([5]), np.array([1, 4])):
        mask = CausalLM().frame(torch.zeros(1), answered(rows)).mask
        (logits, top), (others, all_top) = (kept.read(store, rows, mask.shape[1]) for store in (some, every))
        torch.testing.assert_close(logits[mask], others[mask])
        assert not logits[~mask].any()
        for name in ("index", "value", "tail") if k else ():
            torch.testing.assert_close(getattr(top, name)[mask], getattr(all_top, name)[mask])
    asked = [int(CausalLM().frame(torch.zeros(1), answered(rows)).mask.sum()) for rows in GROUPS]
    assert {len(array) for array in some.arrays.values()} == {sum(asked)} and sum(asked) < sum(LENGTHS) / 2
    assert {len(array) for array in every.arrays.values()} == {sum(LENGTHS)}


@pytest.mark.parametrize("change", [lambda mask: mask[1:], lambda mask: mask.astype(np.int8), lambda mask: ~mask])
def test_a_store_whose_mask_of_answers_does_not_fit_is_damaged(tmp_path, change):
    kept = logit_format(K, TEMPERATURES, "packed")
    folder = kept_of_answers(tmp_path, kept, True).folder
    path, meta = folder / "asked.npy", json.loads((folder / "meta.json").read_text())
    np.save(path, change(np.load(path)))
    meta["files"]["asked.npy"] = sha256(path)
    (folder / "meta.json").write_text(json.dumps(meta))
    _checked.cache_clear()
    with pytest.raises(UserError, match="are damaged"):
        opened(folder)
