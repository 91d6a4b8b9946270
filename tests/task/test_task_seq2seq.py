"""Targets of sources: what is predicted, that it is shifted once, and that generating sees no padding."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.generation import Generated, Sampling
from kdlab.loss.chunk import summed
from kdlab.task.causal_lm import CausalLM
from kdlab.task.seq2seq import Seq2Seq
from tests.task.test_task_causal_lm import model as decoder_only

END, START, WORDS = 12, 11, 13
SHARED = {"vocab_size": WORDS, "pad_token_id": 0, "eos_token_id": END, "decoder_start_token_id": START}
BART = {
    "d_model": 8, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 16, "dropout": 0.0,
}  # fmt: skip
T5 = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2, "dropout_rate": 0}
BERT = {"vocab_size": WORDS, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def model(kind="marian", seed=0, **more):
    torch.manual_seed(seed)
    if kind == "bart":
        made = BartForConditionalGeneration(BartConfig(**SHARED | BART | more))
        made.final_logits_bias.normal_()
    elif kind == "t5":
        made = T5ForConditionalGeneration(T5Config(**SHARED | T5 | more))
    elif kind == "apart":
        made = MarianMTModel(
            MarianConfig(**SHARED | BART | {"vocab_size": 9, "decoder_vocab_size": WORDS} | more,
                         share_encoder_decoder_embeddings=False)
        )  # fmt: skip
    else:
        made = MarianMTModel(MarianConfig(**SHARED | BART | more))
    for parameter in made.parameters():
        parameter.data *= 2 if parameter.requires_grad else 1  # not tables of sinusoids, which are not saved
    return made.eval()


KINDS = ("marian", "bart", "t5", "apart")


def batch(sources=(4, 2, 5), targets=(3, 5, 1), **size):
    draw = torch.Generator().manual_seed(1)
    real = torch.arange(max(sources)) < torch.tensor(sources)[:, None]
    tokens = torch.arange(max(targets)) < torch.tensor(targets)[:, None]
    ids = torch.randint(1, 9, real.shape, generator=draw) * real
    label = torch.randint(1, 9, tokens.shape, generator=draw).where(tokens, -1)
    label[torch.arange(len(targets)), torch.tensor(targets) - 1] = END
    moved = torch.cat([torch.full((len(label), 1), 3), label[:, :-1].clamp(min=0)], 1)  # 3: not the model's start
    inputs = {"input_ids": ids, "attention_mask": real.long(), "decoder_input_ids": moved}
    return Batch(torch.arange(len(sources)), inputs, {"label": label}, size, tokens)


def task(**more):
    found = Seq2Seq(**more)
    found.ends, found.padding = (END,), 0
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_model_itself_and_the_shift_is_made_once(kind):
    own, data = model(kind), batch()
    out = task().read(own, data)
    given_ = {name: data.inputs[name] for name in ("input_ids", "attention_mask")}
    reference = own(**given_, labels=data.target["label"].where(data.tokens, -100)).loss
    torch.testing.assert_close(task().supervised(out, data), reference)
    assert out.mask.sum(1).tolist() == [3, 5, 1], "every token of a target counts, its end too"


def test_the_decoder_begins_with_the_start_of_its_own_model():
    data = batch()
    other = replace(data, inputs=data.inputs | {"decoder_input_ids": data.inputs["decoder_input_ids"].clone()})
    other.inputs["decoder_input_ids"][:, 0] = 7
    own = model()
    assert torch.equal(task().read(own, data).logits, task().read(own, other).logits)
    assert data.inputs["decoder_input_ids"][0, 0] == 3, "the batch stays as it is"


@pytest.mark.parametrize("kind", KINDS)
def test_padding_of_either_side_changes_no_logits(kind):
    own, data = model(kind), batch()
    whole = task().read(own, data).logits
    for row, (source, target) in enumerate(zip((4, 2, 5), (3, 5, 1), strict=True)):
        one = data.rows(torch.tensor([row]))
        inputs = {
            "input_ids": one.inputs["input_ids"][:, :source], "attention_mask": torch.ones(1, source).long(),
            "decoder_input_ids": one.inputs["decoder_input_ids"][:, :target],
        }  # fmt: skip
        short = replace(one, inputs=inputs, target={"label": one.target["label"][:, :target]},
                        tokens=one.tokens[:, :target])  # fmt: skip
        found = task().read(own, short).logits[0]
        torch.testing.assert_close(found, whole[row, :target], rtol=1e-3, atol=1e-5 * float(whole.detach().abs().max()))


def test_micro_batches_add_up_to_the_mean_over_all_tokens():
    own, whole = model(), batch()
    task_ = task(label_smoothing=0.1)
    parts = [replace(whole.rows(torch.tensor(rows)), size={"tokens": 9 / 2}) for rows in ([0], [1, 2])]
    values = [task_.supervised(task_.read(own, part), part) for part in parts]
    torch.testing.assert_close(torch.stack(values).mean(), task_.supervised(task_.read(own, whole), whole))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 4])
def test_logits_made_in_parts_give_the_loss_and_the_gradients_of_all_at_once(kind, size):
    own, data, found = model(kind), batch(), []
    for chunk in (None, size):
        task_ = task(chunk=chunk)
        assert task_.attach(own) is own
        total, _ = summed(lambda out, task_=task_: (task_.supervised(out, data), {}), chunk, task_.read(own, data))
        own.zero_grad()
        total.backward()
        found.append((total.detach(), {name: p.grad.clone() for name, p in own.named_parameters() if p.requires_grad}))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)
    if "final_logits_bias" in dict(own.named_buffers()):
        assert own.final_logits_bias.shape[-1] == WORDS, "it is put back"


def reference(own, source, new):
    """Greedy generation of one row without padding and without a cache."""
    ids, found = [START], []
    for _ in range(new):
        logits = own(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([ids])).logits
        found.append(int(logits[0, -1].argmax()))
        ids.append(found[-1])
        if found[-1] == END:
            break
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_equal_a_loop_over_single_rows(kind):
    own, data = model(kind), batch()
    made = task().generate(own, data, Sampling(6))
    sources = [data.inputs["input_ids"][row, :length].tolist() for row, length in enumerate((4, 2, 5))]
    assert made.rows() == [reference(own, source, 6) for source in sources]
    assert made.tokens.shape[1] <= 6, "the start token is not of the answer"


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(UserError, match="max_new_tokens to 15"):
        task().generate(model(), batch(), Sampling(16))
    assert task().generate(model(), batch(), Sampling(15)).tokens.shape[1] <= 15


def test_the_data_s_own_answers_in_their_place_give_the_batch_back():
    data, own = batch(), model()
    again = task().with_answers(data, task().reference(data))
    assert torch.equal(again.target["label"], data.target["label"]) and torch.equal(again.tokens, data.tokens)
    assert torch.equal(again.inputs["decoder_input_ids"].where(data.tokens, 0),
                       data.inputs["decoder_input_ids"].where(data.tokens, 0))  # fmt: skip
    torch.testing.assert_close(
        task().supervised(task().read(own, again), again), task().supervised(task().read(own, data), data)
    )


@given(st.lists(st.lists(st.integers(1, 8), max_size=5), min_size=3, max_size=3))
def test_other_answers_are_what_is_predicted(rows):
    made = Generated.of(rows, pad=0)
    again = task().with_answers(batch(), made)
    assert task().reference(again).rows() == rows and again.size == {}
    out = task().frame(torch.zeros(*made.tokens.shape, WORDS), again)
    assert [row[real].tolist() for row, real in zip(out.label, out.mask, strict=True)] == rows


def test_a_term_on_the_encoder_counts_real_source_positions_and_adds_up():
    """Rows weighted by their predictions: a mean over micro-batches is that over the whole, also where both sides of a
    batch have the same number of positions by chance."""
    from kdlab.loss.feature.hint import Hint

    hint = Hint(taps={"student": "encoder.hidden.-1", "teacher": "encoder.hidden.-1"})
    for data in (batch((4, 2, 6)), batch((5, 2, 4), (3, 5, 1))):
        student, teacher = (task().read(model("marian", seed), data, ["encoder.hidden.-1"]) for seed in (0, 1))
        real, predicted = data.inputs["attention_mask"].bool(), data.tokens.sum(1)
        apart = (student.taps["encoder.hidden.-1"] - teacher.taps["encoder.hidden.-1"]).square().mean(-1)
        rows = torch.stack([apart[row][real[row]].mean() for row in range(3)])
        value = hint(student, teacher, 0.0)
        torch.testing.assert_close(value, (rows * predicted).sum() / predicted.sum())
        halves = []
        for some in ([0], [1, 2]):
            part = replace(data.rows(torch.tensor(some)), size={"tokens": float(predicted.sum()) / 2})
            both = (task().read(model("marian", seed), part, ["encoder.hidden.-1"]) for seed in (0, 1))
            halves.append(hint(*both, 0.0))
        torch.testing.assert_close(torch.stack(halves).mean(), value, rtol=1e-4, atol=1e-6)
    mixed = {"student": "hidden.-1", "teacher": "encoder.hidden.-1"}
    with pytest.raises(UserError, match="agree in all but the width"):
        both = (task().read(model(), batch((4, 2, 6)), list(mixed.values())) for _ in range(2))
        Hint(taps=mixed)(*both, 0.0)


def test_under_autocast_the_loss_is_computed_in_float32():
    own, data = model(), batch()
    exact = task().supervised(task().read(own, data), data)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            value = task().supervised(task().read(own, data), data)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact, rtol=0.03, atol=0.03)


def test_only_an_encoder_decoder_with_a_causal_decoder_will_do():
    for wrong in (decoder_only(), torch.nn.Linear(2, 2)):
        with pytest.raises(UserError, match="model=seq2seq_tiny"):
            task().attach(wrong)
    joined = EncoderDecoderModel(
        EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(**BERT), BertConfig(**BERT))
    )
    with pytest.raises(UserError, match="decoder_start_token_id"):
        task().attach(joined)
    joined.config.decoder_start_token_id = START
    assert task().attach(joined) is joined and joined.training
    joined.decoder.config.is_decoder = False
    for layer in joined.decoder.bert.encoder.layer:
        layer.attention.self.is_causal = layer.attention.self.is_decoder = False
    with pytest.raises(UserError, match="looks at later tokens"):
        task().attach(joined)


def test_numbers_out_of_range_are_refused():
    for wrong in ({"chunk": 0}, {"label_smoothing": 1.0}):
        for kind in (Seq2Seq, CausalLM):
            with pytest.raises(UserError, match="task"):
                kind(**wrong)
