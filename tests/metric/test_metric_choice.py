"""Multiple choice by likelihood: the candidates are scored as their rows would be, and the rows have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from chats import CHATML, END, byte_level, written

from kdlab.datamodule.chat import Chat
from kdlab.error import UserError
from kdlab.metric.choice import ACCURACY, BY_TOKEN, Choice
from kdlab.model.gpt import gpt
from kdlab.task.causal_lm import CausalLM

ANSWERS = ["good", "a great story", "is"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level(CHATML, END).save_pretrained(folder)
    return folder


def rows(tmp_path, **more) -> Path:
    lines = [
        {"prompt": f"the film is {n}", "completion": ANSWERS[n % 3]} | {name: value(n) for name, value in more.items()}
        for n in range(40)
    ]
    return written(tmp_path / "rows.jsonl", lines)


def made(path, tokenizer):
    data = Chat(path=str(path), tokenizer=str(tokenizer), max_length=60)
    data.setup()
    task = CausalLM()
    task.check_data(data)
    torch.manual_seed(0)
    model = gpt(16, 2, 2, 32, 0.0, 64, tokenizer=data.tokenizer, labels=[], task="causal_lm").eval()
    for parameter in model.parameters():
        parameter.data *= 3
    return data, task, model


def measured(data, task, model, **settings):
    metric = Choice(**settings)
    metric.setup(task, data)
    for batch in data.test_dataloader():
        metric.update(task.read(model, batch), batch)
    metric.finish(model)
    return metric.compute()


def by_hand(data, model, row, answer):
    """The log likelihood of an answer and of the end of its turn, and how many tokens that are."""
    prompt = f"<|im_start|>user\n{data.values[row].messages[0].content}{END}\n<|im_start|>assistant\n"
    before, whole = (
        data.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, prompt + answer + END)
    )
    logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(logits[at - 1, whole[at]].item() for at in range(len(before), len(whole))), len(whole) - len(before)


@pytest.mark.parametrize("column", [None, "options"])
def test_the_likeliest_candidate_is_chosen(tmp_path, tokenizer, column):
    options = (lambda n: json.dumps([ANSWERS[n % 3], f"story {n}"])) if column else (lambda n: None)
    data, task, model = made(rows(tmp_path, options=options), tokenizer)
    found = measured(data, task, model, column=column)
    sums, means = [], []
    for row in data.splits["test"].tolist():
        known = [ANSWERS[row % 3], f"story {row}"] if column else sorted(ANSWERS)
        scores = [by_hand(data, model, row, answer) for answer in known]
        right = known.index(ANSWERS[row % 3])
        sums.append(max(range(len(known)), key=lambda one: scores[one][0]) == right)
        means.append(max(range(len(known)), key=lambda one: scores[one][0] / scores[one][1]) == right)
    assert found == {ACCURACY: sum(sums) / len(sums), BY_TOKEN: sum(means) / len(means)}


def test_rows_without_candidates_are_refused_with_a_sentence(tmp_path, tokenizer):
    data, task, model = made(rows(tmp_path, options=lambda n: ["other", "one"]), tokenizer)
    for settings, expected in (
        ({"column": "options"}, "with the row's answer '.*' among them"),
        ({"column": "absent"}, "absent"),
        ({"most": 2}, "has 3 different answers"),
    ):
        with pytest.raises(UserError, match=expected):
            measured(data, task, model, **settings)


def test_it_is_one_command(kdlab, tmp_path, tokenizer):
    words = [f"datamodule.path={rows(tmp_path)}", f"model.tokenizer={tokenizer}", "metric=[causal_lm,choice]"]
    words += ["model.hidden_size=16", "model.layers=1", "model=gpt_tiny", "logger=none", "datamodule.max_length=60"]
    code, out, err = kdlab("finetune", "task=causal_lm", "datamodule=chat", *words, "trainer.max_steps=0")
    assert code == 0, out + err
    (run,) = Path("outputs/finetune").glob("*/metrics.json")
    metrics = json.loads(run.read_text())
    assert 0 <= metrics[f"test/{ACCURACY}"] <= 1 and f"test/{BY_TOKEN}" in metrics
