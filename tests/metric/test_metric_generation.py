"""The evaluator of generated texts: the same rows and scores whatever the batches, the processes and the mode."""

import multiprocessing
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import distributed

from kdlab.datamodule.batch import EncodedRows, EvalLoader
from kdlab.datamodule.corpus import PAIR
from kdlab.datamodule.processor.text import Text
from kdlab.datamodule.rows import Rows
from kdlab.datamodule.target import Labels
from kdlab.datamodule.tokenizer import wordpiece
from kdlab.error import UserError
from kdlab.metric import writing
from kdlab.metric.evaluators import Evaluators
from kdlab.metric.generation import Generation
from kdlab.task.causal_lm import CausalLM
from kdlab.task.generative import GenerativeTask
from tests.task.test_task_causal_lm import model as tiny

STORY = "a film with a slow story and a warm end that many people like more than the book"
WORDS = STORY.split()
TEXTS = [" ".join(WORDS[place % 7 : place % 7 + 6 + place % 5]) for place in range(20)]
SPLITS = {"train": np.arange(0), "val": np.arange(12), "test": np.arange(12, 20)}


def source():
    """What the evaluator reads of a data set: splits, a processor, and rows."""
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    processor = Text(PreTrainedTokenizerFast(tokenizer_object=wordpiece(TEXTS, 150), **special), 24, False)
    rows = processor.encode(TEXTS, "texts")
    encoded = EncodedRows(rows, Labels((), np.full(len(TEXTS), -1)))
    return SimpleNamespace(splits=SPLITS, processor=processor, encoded_rows=lambda: encoded, values=TEXTS)


DATA = source()


def task():
    found = CausalLM(prompt=4)
    found.ends, found.padding = DATA.processor.ends, DATA.processor.padding
    return found


def model(seed=0):
    return tiny(seed, vocab_size=len(DATA.processor.tokenizer), n_positions=40)


def measured(batch_size=128, own=None, split="val", teacher=None, rank=0, world=1, **more):
    """The evaluator after one pass over a split."""
    settings = {"scores": ["exact_match", "rouge", "bleu", "chrf", "cer", "wer", "length", "ended", "repetition"]}
    one = Generation(**settings | {"max_new_tokens": 8} | more)
    evaluators = Evaluators({"generation": one})
    evaluators.setup(task(), DATA)
    for batch in EvalLoader(DATA.encoded_rows(), SPLITS[split], batch_size, rank, world):
        evaluators.update(None, batch)
        evaluators.update(None, batch)  # as the parts of task.chunk come
    evaluators.finish(own or model(), teacher)
    return evaluators, one


def scores(*arguments, **named):
    found = measured(*arguments, **named)[0].compute()
    return {name: value for name, value in found.items() if value == value}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_batch_size_changes_a_score(temperature, monkeypatch):
    whole = scores(temperature=temperature)
    assert whole["generation/length_ratio"] > 0
    for size in (1, 5):
        assert scores(size, temperature=temperature) == whole
    if not temperature:  # what is drawn depends on the rows that are drawn together
        monkeypatch.setattr(writing, "ROWS", 1)
        assert scores() == whole


def test_mixed_precision_and_inference_mode_change_no_score():
    whole = scores()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert scores() == whole


def test_the_generator_of_torch_is_as_it_was():
    torch.manual_seed(3)
    own = model()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert scores(own=own, temperature=1.0) == scores(own=own, temperature=1.0)
    assert torch.equal(before, torch.get_rng_state())
    assert scores(own=own, temperature=1.0, seed=1) != scores(own=own, temperature=1.0)


def test_a_model_that_was_taught_a_text_gives_it_back():
    """Greedy answers of a model that has learned the rows by heart are the references."""
    own, batch = model(), DATA.encoded_rows().batch(np.arange(12, 14))
    optimizer = torch.optim.AdamW(own.parameters(), 2e-2)
    for _ in range(120):
        optimizer.zero_grad()
        task().supervised(task().read(own, batch), batch).backward()
        optimizer.step()
    evaluators = Evaluators({"generation": (one := Generation(max_new_tokens=24, rows=None))})
    evaluators.setup(task(), DATA)
    evaluators.update(None, batch)
    evaluators.finish(own)
    assert one.written.references[0].split() == TEXTS[12].split()[3:]  # after [CLS] and three words
    found = evaluators.compute()
    assert found["generation/exact_match"] == found["generation/rougeL"] == found["generation/ended"] == 1


def test_the_rows_are_the_same_each_time_and_of_every_split():
    assert measured(rows=3)[1].written.rows == measured(1, rows=3)[1].written.rows == [0, 5, 11]
    assert measured(rows=3, split="test")[1].written.rows == [12, 15, 19]
    assert measured(rows=None)[1].written.rows == list(range(12))
    assert [line["row"] for line in measured(rows=3, samples=2)[1].samples()] == [0, 11]
    assert measured(samples=0)[1].samples() == []


def test_samples_have_the_teacher_s_text_once_it_was_generated():
    own, teacher = model(), model(1)
    evaluators, one = measured(own=own, teacher=teacher, samples=2)
    of_teacher = measured(own=teacher)[1].written
    for line in one.samples():
        place = of_teacher.rows.index(line["row"])
        assert line["teacher"] == of_teacher.answers[place] and line["reference"] == of_teacher.references[place]
        assert f"{line['prompt']} {line['reference']}" == TEXTS[line["row"]]
    evaluators.reset()
    assert one.samples() == [] and evaluators.compute() == {}
    assert "teacher" not in measured()[1].samples()[0]


def test_the_prompt_of_other_tasks_is_the_value_and_of_a_pair_its_source():
    data = SimpleNamespace(values=["whole", f"source{PAIR}target"])
    batch = SimpleNamespace(row=torch.tensor([1, 0]))
    assert GenerativeTask.prompt_texts(task(), batch, data) == ["source", "whole"]


def own_rows(rank, file, queue):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    evaluators, one = measured(2, model(), rows=9, rank=rank, world=2, teacher=model(1))
    queue.put((evaluators.compute(), one.written, one.samples()))
    distributed.destroy_process_group()


def test_two_processes_measure_what_one_does(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    started = [context.Process(target=partial(own_rows, rank, tmp_path / "meet", queue)) for rank in range(2)]
    for process in started:
        process.start()
    found = [queue.get(timeout=60) for _ in started]
    for process in started:
        process.join(60)
    evaluators, one = measured(rows=9, teacher=model(1))
    for values, written, samples in found:
        assert repr(values) == repr(evaluators.compute()) and written == one.written
        assert samples == one.samples()


def test_what_does_not_fit_the_model_is_refused_before_training():
    evaluators = Evaluators({"generation": Generation(max_new_tokens=64)})
    with pytest.raises(
        UserError, match=r"metric.generation.max_new_tokens=64 is more than the 36 positions.*36 or less"
    ):
        evaluators.try_on(task(), DATA, model())
    state = torch.get_rng_state()
    Evaluators({"generation": Generation(max_new_tokens=36, temperature=1.0)}).try_on(task(), DATA, model())
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(UserError, match="no method generate"):
        Evaluators({"generation": Generation()}).try_on(task(), DATA, SimpleModel())


class SimpleModel(torch.nn.Linear):
    config = SimpleNamespace()

    def __init__(self):
        super().__init__(1, 1)


def test_the_primary_number_is_chosen():
    assert Generation().primary == "generation/exact_match"
    assert Generation(["rouge"]).primary == Generation(primary="rougeL").primary == "generation/rougeL"
    with pytest.raises(UserError, match=r"primary=wer is not among .* rougeL"):
        Generation(primary="wer")
    with pytest.raises(UserError, match="temperature"):
        Generation(temperature=-1)


def test_a_signature_names_the_library_that_computed_a_score():
    evaluators, _ = measured()
    assert evaluators.named.get("signature") is None
    evaluators.compute()
    assert evaluators.named["signature"]["generation/bleu"].startswith("nrefs:1|case:mixed")


def test_many_references_longer_than_an_answer_may_be_are_a_warning(caplog):
    measured(max_new_tokens=2)
    assert "more than metric.generation.max_new_tokens=2 tokens" in caplog.text


def test_the_time_is_estimated():
    _, one = measured()
    assert 0 < one.seconds(model(), "val") < 60 and one.seconds(model(), "train") == 0
    assert isinstance(DATA.encoded_rows().rows, Rows)
