"""A teacher that knows more: its output is that of its own prompt, at the student's answers, whoever wrote these."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from chats import CHATML, END, LLAMA2, byte_level, chats, written

from kdlab.datamodule.chat import Chat
from kdlab.datamodule.dialogue import Message
from kdlab.error import UserError
from kdlab.generation import Generated
from kdlab.loss.logit.kl import KL, tempered_kl
from kdlab.loss.objective import Objective
from kdlab.model.gpt import gpt
from kdlab.module.on_policy import OnPolicy
from kdlab.task.causal_lm import CausalLM
from kdlab.teacher.privileged import Privileged
from kdlab.teacher.privileged_cached import PrivilegedCached


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level(CHATML, END).save_pretrained(folder)
    return folder


def made(path, tokenizer, **settings):
    data = Chat(path=str(path), tokenizer=str(tokenizer), **{"max_length": 200} | settings)
    data.setup()
    task = CausalLM()
    task.check_data(data)
    torch.manual_seed(0)
    model = gpt(16, 2, 2, 32, 0.0, 512, tokenizer=data.tokenizer, labels=[], task="causal_lm").eval()
    for parameter in model.parameters():
        parameter.data *= 3
    return data, task, model


def hinted(tmp_path, system=None) -> Path:
    rows = [json.loads(line) for line in chats(tmp_path / "chats.jsonl", 40).read_text().splitlines()]
    first = [{"role": "system", "content": system}] if system else []
    return written(
        tmp_path / "hinted.jsonl",
        [{"messages": first + row["messages"], "hint": f"the hint {place}"} for place, row in enumerate(rows)],
    )


@pytest.mark.parametrize(("own", "system"), [(None, None), ("be brief", None), (None, "be brief")])
def test_its_output_is_that_of_its_own_prompt_at_the_students_answers(tmp_path, tokenizer, own, system):
    data, task, model = made(hinted(tmp_path, own), tokenizer, system=system)
    teacher = Privileged(model, task, data, (), tmp_path, "Know {hint}!")
    batch = data.every_row(400)[0]
    found = teacher.read(task, batch)
    student = task.read(model, batch)
    assert torch.equal(found.mask, student.mask) and torch.equal(found.label, student.label)
    assert not torch.allclose(found.logits[found.mask], student.logits[student.mask], atol=1e-2)
    before = f"{own or system}\n\n" if own or system else ""
    for place, row in enumerate(batch.row.tolist()):
        turns = [one for one in data.values[row].messages if one.role != "system"]
        whole = (Message("system", f"{before}Know the hint {row}!"), *turns)
        ids = data.processor.template.render(type(data.values[row])(whole))
        ids = data.tokenizer(ids, add_special_tokens=False)["input_ids"]
        logits = model(torch.tensor([ids])).logits[0]
        expected = [logits[at - 1] for at in answered(data, ids, turns)]
        torch.testing.assert_close(found.logits[place][found.mask[place]], torch.stack(expected), rtol=1e-4, atol=1e-4)


def answered(data, ids, turns):
    """The positions of the tokens of answers: from the generation prompt to the end of the turn."""
    prompt = data.tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    end, found, place = data.tokenizer.convert_tokens_to_ids(END), [], 0
    while place < len(ids):
        if ids[place : place + len(prompt)] == prompt:
            place += len(prompt)
            stop = ids.index(end, place)
            found += range(place, stop + 1)
            place = stop
        place += 1
    return found


def saved(model, **more):
    return SimpleNamespace(**{"id": "teacher", "fingerprint": "abc", "model": model} | more)


@pytest.mark.parametrize("top_k", [None, 8])
def test_stored_it_is_the_same_and_each_prompt_has_a_store_of_its_own(tmp_path, tokenizer, top_k):
    data, task, model = made(hinted(tmp_path), tokenizer)
    live = Privileged(model, task, data, (), tmp_path, "Know {hint}!", top_k)
    found = PrivilegedCached(saved(model), task, data, (), tmp_path, "Know {hint}!", 999, top_k, top_k_dtype="float32")
    asked = data.encoded_rows().rows.predictions[data.used].sum()
    assert {len(array) for array in found.store.arrays.values()} == {asked}, "a line for each token of an answer"
    batch = data.every_row(400)[0]
    one, two = live.read(task, batch), found.read(task, batch)
    assert torch.equal(one.mask, two.mask)
    torch.testing.assert_close(one.logits[one.mask], two.logits[one.mask], rtol=1e-4, atol=1e-4)
    if top_k:
        assert torch.equal(one.top.index[one.mask], two.top.index[one.mask])
    student = task.read(model, batch)
    losses = [student.mean(tempered_kl(student.logits, part.logits, 2.0)) for part in (one, two) if not top_k]
    assert not losses or float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-4)
    known = saved(None)  # it is not even loaded
    same = PrivilegedCached(known, task, data, (), tmp_path, "Know {hint}!", 999, top_k, top_k_dtype="float32")
    other = PrivilegedCached(saved(model), task, data, (), tmp_path, "Know.", 999, top_k, top_k_dtype="float32")
    assert same.store.folder == found.store.folder != other.store.folder


def test_it_reads_what_the_student_wrote_after_its_own_prompt(tmp_path, tokenizer):
    data, task, model = made(hinted(tmp_path), tokenizer, answers="last")
    teacher = Privileged(model, task, data, (), tmp_path, "Know {hint}!")
    batch = data.every_row(400)[0]
    rewritten = task.with_answers(batch, task.reference(batch))
    first, second = (task.frame(torch.zeros(*one.tokens.shape, 1), one).mask for one in (batch, rewritten))
    own, again = teacher.read(task, batch).logits[first], teacher.read(task, rewritten).logits[second]
    torch.testing.assert_close(own, again, rtol=1e-4, atol=1e-4)
    new = Generated(torch.full((len(batch), 3), 50), torch.ones(len(batch), 3, dtype=torch.bool))
    other = task.with_answers(batch, new)
    found = teacher.read(task, other)
    assert found.mask.sum() == 3 * len(batch)
    prompts = task.with_answers(teacher.view.again(batch), new)
    expected = task.read(model, prompts)
    torch.testing.assert_close(found.logits[found.mask], expected.logits[expected.mask], rtol=1e-4, atol=1e-4)


def test_what_it_cannot_read_is_one_sentence(tmp_path, tokenizer):
    data, task, model = made(hinted(tmp_path), tokenizer)
    for system, expected in (
        (" ", "knows no more than the student"),
        ("{answer}", "answer"),
        ("a " * 600, "positions"),
    ):
        with pytest.raises(UserError, match=expected):
            Privileged(model, task, data, (), tmp_path, system)
        with pytest.raises(UserError, match=expected):
            PrivilegedCached(saved(model), task, data, (), tmp_path, system)
    with pytest.raises(UserError, match="set teacher=privileged"):
        OnPolicy.accept(PrivilegedCached, task, Objective(1.0, 2.0, {"kl": KL()}))
    with pytest.raises(UserError, match=r"offers logits only, and no 'hidden\.-1'"):
        Privileged.accept(["hidden.-1"])
    for settings, expected in (({"max_length": 20}, "are cut"), ({"pack": True}, "pack=true")):
        data, task, model = made(hinted(tmp_path), tokenizer, **settings)
        with pytest.raises(UserError, match=expected):
            Privileged(model, task, data, (), tmp_path, "Know more.")
    byte_level(LLAMA2).save_pretrained(tmp_path / "llama2")
    data, task, model = made(hinted(tmp_path), tmp_path / "llama2")
    with pytest.raises(UserError, match="refused by the chat template"):
        Privileged(model, task, data, (), tmp_path, "Know more.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("teacher", "rule"), [("privileged", "distill"), ("privileged", "on_policy"), ("privileged_cached", "distill")]
)
def test_a_student_learns_from_what_it_does_not_see(kdlab, tmp_path, tokenizer, teacher, rule):
    size = ["hidden_size=16", "layers=1", "heads=2", "intermediate_size=32", "dropout=0.0", f"tokenizer={tokenizer}"]
    words = ["task=causal_lm", "metric=[causal_lm,fidelity]", "datamodule=chat", "loss=kd", "logger=none"]
    words += [f"datamodule.path={hinted(tmp_path)}", "datamodule.max_length=200", "trainer.max_steps=3"]
    words += [f"teacher={teacher}", "model@student=gpt_tiny", "model@teacher.model=gpt_tiny", f"module={rule}"]
    words += [f"{place}.{word}" for place in ("student", "teacher.model") for word in size]
    code, out, err = kdlab("distill", *words, "teacher.system='Know {hint}!'")
    assert code == 0, out + err
    code, _, err = kdlab("distill", *words)
    assert code == 2 and "teacher.system has no value" in err
