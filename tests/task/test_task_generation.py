"""Answers to prompts: which tokens the loss is about, what is generated, and that neither sees padding."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from kdlab.error import UserError
from kdlab.generation import Generated, Sampling
from kdlab.task.causal_lm import ANSWER, CausalLM
from kdlab.task.generative import last_run
from tests.task.test_task_causal_lm import batch, model

END = 12


def task(**more):
    found = CausalLM(**more)
    found.ends, found.padding = (END,), 0
    return found


def answered(lengths=(7, 5, 6), prompts=(3, 1, 5)):
    found = batch(lengths)
    place = torch.arange(found.length)
    return replace(found, target={ANSWER: (place >= torch.tensor(prompts)[:, None]) & found.tokens})


def test_the_loss_is_over_the_answers_alone():
    """Equal to a loop over the rows of the cross-entropy of their answers' tokens."""
    own, data = model(), answered()
    out = task().read(own, data)
    assert out.mask.sum(1).tolist() == [4, 4, 1]
    values = []
    for row, (prompt, length) in enumerate(zip((3, 1, 5), (7, 5, 6), strict=True)):
        ids = data.inputs["input_ids"][row : row + 1, :length]
        values.append(cross_entropy(own(ids).logits[0, prompt - 1 : -1], ids[0, prompt:], reduction="none"))
    torch.testing.assert_close(task().supervised(out, data), torch.cat(values).mean())


def test_the_logits_of_a_prompt_change_nothing():
    own, data = model(), answered()
    out = task().read(own, data)
    other = replace(out, logits=out.logits.where(out.mask[..., None], out.logits + 100 * torch.randn_like(out.logits)))
    torch.testing.assert_close(task().supervised(out, data), task().supervised(other, data))


def test_an_answer_that_equals_the_padding_token_counts():
    """Masks go by length: where padding and end are one id, a model still learns to end."""
    data = answered((4,), (2,))
    data.inputs["input_ids"][0, 3] = 0  # the id of the padding
    assert task().read(model(), data).mask[0].tolist() == [False, True, True, False]


def test_rows_without_an_answer_add_nothing():
    data = answered((4, 5), (4, 2))
    out = task().read(model(), data)
    assert out.mask[0].sum() == 0
    none = data.rows(torch.tensor([0]))
    value = task().supervised(task().read(model(), none), none)
    assert value == 0 and value.isfinite()


def reference(own, ids, new):
    """Greedy generation without a cache and without padding."""
    ids, found = list(ids), []
    for _ in range(new):
        token = int(own.eval()(torch.tensor([ids])).logits[0, -1].argmax())
        found.append(token)
        ids.append(token)
        if token == END:
            break
    return found


@pytest.mark.parametrize("seed", range(4))
def test_greedy_answers_equal_a_loop_over_single_rows(seed):
    own, data = model(seed, n_positions=16), answered()
    made = task().generate(own, data, Sampling(6))
    expected = [
        reference(own, data.inputs["input_ids"][row, :prompt].tolist(), 6) for row, prompt in enumerate((3, 1, 5))
    ]
    assert made.rows() == expected
    alone = [task().generate(own, data.rows(torch.tensor([row])), Sampling(6)).rows()[0] for row in range(3)]
    assert alone == expected
    assert made.ended((END,)).tolist() == [row[-1] == END for row in expected]


def test_the_same_seed_draws_the_same_and_temperature_near_zero_is_greedy():
    own, data = model(n_positions=16), answered()

    def drawn(seed, **more):
        torch.manual_seed(seed)
        return task().generate(own, data, Sampling(6, **more)).rows()

    assert drawn(1, temperature=1.0) == drawn(1, temperature=1.0) != drawn(2, temperature=1.0)
    assert drawn(1, temperature=1e-6) == drawn(1, temperature=1.0, top_k=1) == drawn(3)
    assert drawn(4, temperature=1.0, top_p=1e-9) == drawn(3)


def test_the_mode_and_the_settings_of_the_model_stay():
    own, data = model(n_positions=16), answered()
    own.train()
    own.transformer.h[0].eval()
    own.generation_config.max_new_tokens, before = 1, own.generation_config
    assert task().generate(own, data, Sampling(3)).tokens.shape[1] == 3
    assert own.training and not own.transformer.h[0].training and own.generation_config is before


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="more than the 8 positions"):
        task().generate(model(), answered(), Sampling(6))
    with pytest.raises(UserError, match="no method generate"):
        plain = torch.nn.Linear(1, 1)
        plain.config = model().config
        task().generate(plain, answered(), Sampling(1))


@pytest.mark.parametrize(
    ("name", "value"), [("max_new_tokens", 0), ("temperature", -1.0), ("top_p", 0.0), ("top_p", 1.1), ("top_k", -1)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=name):
        Sampling(**{name: value})


def test_the_data_s_own_answers_in_their_place_give_the_batch_back():
    data = answered()
    again = task().with_answers(data, task().reference(data))
    assert torch.equal(again.inputs["input_ids"], data.inputs["input_ids"])
    assert torch.equal(again.tokens, data.tokens) and torch.equal(again.target[ANSWER], data.target[ANSWER])
    own = model()
    torch.testing.assert_close(
        task().supervised(task().read(own, again), again), task().supervised(task().read(own, data), data)
    )


@given(st.lists(st.integers(1, 5), min_size=3, max_size=3))
def test_other_answers_follow_their_prompts(lengths):
    data = answered()
    made = Generated.of([list(range(1, length + 1)) for length in lengths], pad=0)
    again = task().with_answers(data, made)
    for row, prompt in enumerate((3, 1, 5)):
        real = again.inputs["input_ids"][row][again.tokens[row]].tolist()
        assert real[:prompt] == data.inputs["input_ids"][row, :prompt].tolist() and real[prompt:] == made.rows()[row]
    assert task().reference(again).rows() == made.rows()
    assert again.size == {}


def test_a_text_without_an_answer_goes_on_from_its_first_tokens():
    data = batch((6, 1, 4))
    found = task(prompt=2).reference(data)
    assert found.lengths.tolist() == [4, 0, 2]
    assert found.rows()[0] == data.inputs["input_ids"][0, 2:].tolist()
    with pytest.raises(UserError, match=r"task\.prompt"):
        CausalLM(prompt=0)


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=6))
def test_the_last_run_is_the_one_that_a_loop_finds(rows):
    begin, end = last_run(torch.tensor(rows))
    for row, first, last in zip(rows, begin.tolist(), end.tolist(), strict=True):
        stop = max((place + 1 for place in range(5) if row[place]), default=5)
        start = stop if not any(row) else stop - 1
        while start > 0 and row[start - 1] and any(row):
            start -= 1
        assert (first, last) == (start, stop)


@given(st.lists(st.lists(st.sampled_from([1, 2, END]), max_size=4), min_size=1, max_size=4))
def test_a_generated_row_is_real_up_to_its_first_end(rows):
    cut = [row[: row.index(END) + 1] if END in row else row for row in rows]
    made = Generated.until_end(Generated.of(rows, pad=END).tokens, (END,))
    whole = [row if END in row else [*row, END] for row in rows]
    width = made.tokens.shape[1]
    assert made.rows() == [
        (kept if END in row else whole_row)[:width] for row, kept, whole_row in zip(rows, cut, whole, strict=True)
    ]
