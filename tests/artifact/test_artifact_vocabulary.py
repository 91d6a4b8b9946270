"""Models of one family whose vocabularies are padded to different sizes: both are cut to the ids that they share."""

import logging

import pytest
import torch
from hydra import initialize_config_dir
from small import small, train
from transformers import GPT2Config, GPT2LMHeadModel

from kdlab.artifact.trained import Trained
from kdlab.artifact.vocabulary import cut_to_common_ids
from kdlab.config import conf
from kdlab.datamodule.tokenizer import load
from kdlab.model.save import save


@pytest.fixture(scope="module")
def texts(tmp_path_factory, reviews):
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in reviews.read_text().splitlines()))
    return path


@pytest.fixture(scope="module")
def tokenizer(texts):
    return load("train:wordpiece:200", texts.read_text().splitlines()[1:])


def model(vocabulary: int, seed: int = 0) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, n_embd=16, n_layer=2, n_head=2, n_positions=64, **ends))


@pytest.mark.parametrize(("own", "others"), [(203, 220), (220, 203)])
@pytest.mark.parametrize("kind", ["cached teacher.top_k=8 loss=kd_top_k", "live loss=kd task.chunk=16"])
def test_a_pair_of_different_sizes_trains_on_the_common_ids(texts, tokenizer, tmp_path, caplog, own, others, kind):
    student = save(model(own), tokenizer, tmp_path / "student")
    teacher = save(model(others, 1), tokenizer, tmp_path / "teacher")
    words = ["task=causal_lm", "metric=[causal_lm,fidelity]", "datamodule=table", f"datamodule.path={texts}"]
    words += ["datamodule.label_column=null", "model@student=hf", f"student.path={student}", f"teacher.run={teacher}"]
    words += ["model@teacher.model=hf", f"teacher.model.path={teacher}", f"outputs={tmp_path}"]
    with initialize_config_dir(str(conf()), version_base="1.3"), caplog.at_level(logging.WARNING):
        found = train(small("distill", [*words, *f"teacher={kind}".split()]))
    assert found.changed and found.learner.model.config.vocab_size == 203
    assert found.learner.model.lm_head.weight is found.learner.model.transformer.wte.weight
    (line,) = [record.getMessage() for record in caplog.records if "token ids" in record.getMessage()]
    assert f"the student has {own} token ids, teacher teacher {others}: all are cut to the first 203" in line


def test_models_of_one_size_are_left_as_they_are(tokenizer, tmp_path):
    teacher = Trained(save(model(203), tokenizer, tmp_path / "a"), tmp_path / "a", "a")
    before = teacher.fingerprint
    assert not cut_to_common_ids(model(203, 1), [teacher])
    assert teacher.fingerprint == before and teacher.model.config.vocab_size == 203
    assert not cut_to_common_ids(torch.nn.Linear(2, 2), [teacher])


def test_a_teacher_that_is_cut_has_the_same_logits_of_the_ids_that_are_left(tokenizer, tmp_path):
    whole = model(220)
    teacher = Trained(save(whole, tokenizer, tmp_path / "a"), tmp_path / "a", "a")
    before = teacher.fingerprint
    assert not cut_to_common_ids(model(203), [teacher])
    assert teacher.vocabulary == 203 and teacher.fingerprint != before
    ids = torch.tensor([[5, 9, 2]])
    torch.testing.assert_close(teacher.model(ids).logits, whole.eval()(ids).logits[..., :203])
