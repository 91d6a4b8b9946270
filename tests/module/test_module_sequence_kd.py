"""Learning from what the teacher wrote: once, stored, in the place of the data's own answers in training rows alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from small import knob, same, train
from small_language import language, learner
from torch.nn.functional import cross_entropy

from kdlab.artifact.trained import named
from kdlab.config import build, conf
from kdlab.error import UserError
from kdlab.generation import Sampling
from kdlab.plan import distill
from kdlab.task.causal_lm import ANSWER

SHORT = ("module.writer.max_new_tokens=5", "task.prompt=3", "module.writer.num_beams=2")


@pytest.fixture(scope="module")
def make(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("sequence_kd")
    texts = folder / "texts.csv"
    texts.write_text("\n".join(line.rsplit(",", 1)[0] for line in reviews.read_text().splitlines()))
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield lambda *words: language(folder, texts, "module=sequence_kd", *SHORT, *words)


def prepared(job):
    """The data of a job, its plan, and its teacher's model."""
    torch.manual_seed(job.cfg.seed)
    data = build.data(job.cfg)
    return data, distill.prepare(job, data), named(job.cfg.teacher.run, Path(job.cfg.outputs)).model


@pytest.mark.parametrize("beams", [1, 2])
def test_training_rows_have_the_teachers_answers_and_the_others_their_own(make, beams):
    data, plan, teacher = prepared(knob(make("loss=ce"), f"module.writer.num_beams={beams}"))
    task, own = plan.learner.task, plan.data.encoded_rows()
    sampling = Sampling(5, num_beams=beams)
    for name in ("train", "val"):
        index = data.splits[name][:7]
        before, after = data.encoded_rows().batch(index), own.batch(index)
        if name == "val":
            assert torch.equal(before.inputs["input_ids"], after.inputs["input_ids"]) and ANSWER not in after.target
            continue
        expected = task.with_answers(before, task.generate(teacher.eval(), before, sampling))
        assert torch.equal(expected.inputs["input_ids"], after.inputs["input_ids"])
        assert torch.equal(expected.target[ANSWER], after.target[ANSWER])
        out = task.frame(torch.zeros(*after.tokens.shape, 1), after)
        assert torch.equal(out.mask.sum(1), torch.from_numpy(own.rows.predictions[index]))
        assert torch.equal(after.tokens.sum(1), torch.from_numpy(own.rows.lengths[index]))
        assert after.size["tokens"] == out.mask.sum()


def test_rows_of_all_splits_in_one_batch_are_each_as_alone(make):
    data, plan, _ = prepared(make("loss=ce"))
    encoded = plan.data.encoded_rows()
    index = np.concatenate([data.splits[name][:3] for name in ("train", "val", "test")])
    batch = encoded.batch(index)
    for place, row in enumerate(index):
        alone = encoded.batch(np.array([row]))
        assert batch.inputs["input_ids"][place][batch.tokens[place]].tolist() == alone.inputs["input_ids"][0].tolist()


@pytest.mark.slow
def test_the_teacher_writes_once_for_all_runs_and_again_for_other_answers(make, tmp_path):
    base = knob(make("loss=ce"), f"outputs={tmp_path}")
    one, again = train(base), train(knob(base, "seed=1", "module.seed=1"))
    assert one.changed and not same(one.after, again.after)
    (found,) = tmp_path.glob("store/*/meta.json")
    assert json.loads(found.read_text())["of"].startswith("the answers of")
    for word in ("module.writer.max_new_tokens=3", "module.writer.num_beams=1", "task.prompt=2"):
        assert not same(one.after, train(knob(base, word)).after), word
    drawn = knob(base, "module.writer.num_beams=1", "module.writer.temperature=1.0")
    assert not same(train(drawn).after, train(knob(drawn, "module.writer.seed=1")).after)
    assert len(list(tmp_path.glob("store/*/meta.json"))) == 6


def test_a_damaged_store_of_answers_is_written_again(make, tmp_path, capsys):
    base = knob(make("loss=ce"), f"outputs={tmp_path}")
    one = train(base)
    (found,) = tmp_path.glob("store/*/answer.npy")
    found.write_bytes(found.read_bytes()[:-1] + b"x")
    assert same(one.after, train(base).after) and "built again" in capsys.readouterr().out


@pytest.mark.slow
def test_stored_targets_on_the_answers_are_those_of_a_live_teacher(make, tmp_path):
    stored = knob(make("loss=kd"), f"outputs={tmp_path}")
    live = knob(make("loss=kd", "teacher=live"), f"outputs={tmp_path}")
    first, second = train(stored), train(live)
    assert first.changed
    for name, value in first.after.items():
        torch.testing.assert_close(value, second.after[name], rtol=0, atol=1e-5)
    top = train(knob(make("loss=kd_top_k"), f"outputs={tmp_path}", "teacher.top_k=8"))
    assert top.changed and torch.tensor(top.losses).isfinite().all()


def test_the_loss_is_the_cross_entropy_of_the_teachers_tokens(make):
    rule, batch = learner(make("loss=kd", "loss.alpha=0.5", "student.dropout=0.0"))
    batch = prepared(make("loss=kd", "loss.alpha=0.5"))[1].data.encoded_rows().batch(batch.row.numpy())
    output = rule.read(batch)
    values = []
    for row in range(len(batch)):
        answer = batch.target[ANSWER][row].nonzero()[:, 0]
        ids = batch.inputs["input_ids"][row : row + 1, : int(answer[-1]) + 1]
        logits = rule.model(input_ids=ids).logits[0, answer - 1]
        values.append(cross_entropy(logits, ids[0, answer], reduction="none"))
    torch.testing.assert_close(rule.task.supervised(output, batch), torch.cat(values).mean())
    part = replace(batch.rows(torch.arange(4)), size={})
    assert rule.task.supervised(rule.read(part), part).isfinite()


REFUSED = {
    "no trained teacher": (("teacher=self",), "one trained teacher that writes"),
    "augmented": (("datamodule/augment=word_dropout",), "leave datamodule/augment out"),
    "beams": (("module.writer.temperature=1",), "num_beams"),
    "too long": (("module.writer.max_new_tokens=64",), "more than the 64 positions"),
}


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(make, case):
    words, sentence = REFUSED[case]
    with pytest.raises(UserError, match=sentence):
        learner(make("loss=kd", *words))
