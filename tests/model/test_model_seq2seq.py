"""Encoder-decoders: their taps, blocks and layers, and that what they share stays shared on disk."""

import pytest
import torch

from kdlab.datamodule.tokenizer import load
from kdlab.error import UserError
from kdlab.generation import Sampling
from kdlab.model.block import blocks
from kdlab.model.family.find import family, task_of
from kdlab.model.hf import hf
from kdlab.model.layers_of_teacher import layers_of_teacher
from kdlab.model.save import load as load_saved
from kdlab.model.save import save
from kdlab.model.seq2seq import seq2seq
from kdlab.model.tap import read
from tests.task.test_task_seq2seq import KINDS, batch, model, task

TEXTS = ["ab cd", "bad cab", "dab"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))


def made(**more):
    size = {"hidden_size": 8, "encoder_layers": 3, "layers": 2, "heads": 2, "intermediate_size": 16, "max_length": 9}
    return seq2seq(**size | {"dropout": 0.0, "tokenizer": load("train:char", TEXTS), "labels": []} | more)


@pytest.mark.parametrize("kind", KINDS)
def test_the_taps_of_both_sides_are_what_transformers_returns(kind):
    own, data = model(kind), batch()
    own.set_attn_implementation("eager")
    names = ["embedding", "hidden.0", "hidden.-1", "encoder.hidden.-1", "encoder.embedding", "attention.0"]
    _, found = read(own, data, names)
    out = own(**data.inputs, output_hidden_states=True, output_attentions=True)
    assert torch.equal(found["embedding"], out.decoder_hidden_states[0])
    assert torch.equal(found["hidden.0"], out.decoder_hidden_states[1])
    assert torch.equal(found["hidden.-1"], out.decoder_hidden_states[2])
    assert torch.equal(found["encoder.embedding"], out.encoder_hidden_states[0])
    assert torch.equal(found["encoder.hidden.-1"], out.encoder_hidden_states[2])
    assert torch.equal(found["attention.0"], out.decoder_attentions[0])
    rows, source, target = 3, data.inputs["input_ids"].shape[1], data.length
    extents = {"row": rows, "source": source, "token": target, "width": 8, "head": 2}
    for name, tap in found.items():
        assert tuple(tap.shape) == tuple(extents[axis] for axis in family(own).axes(own, name))
    with pytest.raises(UserError, match=r"has no tap 'encoder\.hidden\.7'"):
        read(own, data, ["encoder.hidden.7"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_blocks_hold_every_parameter_once_from_the_bottom_up(kind):
    own = model(kind)
    cut = blocks(own)
    assert [block.name for block in cut] == [
        "embedding", "encoder.layer.0", "encoder.layer.1", "layer.0", "layer.1", "head",
    ]  # fmt: skip
    held = [id(parameter) for block in cut for parameter in block.parameters]
    assert sorted(held) == sorted(id(parameter) for parameter in own.parameters())
    assert any(own.get_output_embeddings().weight is parameter for parameter in cut[0].parameters), "it is tied"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "encoder_layers"), [([1], [0]), ([-1], None), ([1, 0], [-1])])
def test_chosen_layers_of_each_side_make_a_student_that_is_saved_as_it_is(kind, layers, encoder_layers, tmp_path):
    teacher, data = model(kind), batch()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = layers_of_teacher(layers, teacher, [], task="seq2seq", encoder_layers=encoder_layers)
    assert family(student).depth(student) == len(layers)
    assert family(student).encoder_depth(student) == (2 if encoder_layers is None else len(encoder_layers))
    head = student.get_output_embeddings().weight
    assert head is student.get_decoder().embed_tokens.weight, "the head stays tied"
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in before.items())
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter += 0.01
    logits = task().read(student.eval(), data).logits
    save(student, None, tmp_path / "student")
    again, _ = load_saved(tmp_path / "student")
    torch.testing.assert_close(task().read(again, data).logits, logits)
    assert task().generate(again, data, Sampling(4)).rows() == task().generate(student, data, Sampling(4)).rows()


def test_all_layers_are_the_teacher_itself():
    teacher, data = model("t5"), batch()
    student = layers_of_teacher([0, 1], teacher, [], task="seq2seq", encoder_layers=[0, 1]).eval()
    assert torch.equal(task().read(student, data).logits, task().read(teacher, data).logits)


def test_layers_that_are_not_there_are_refused():
    for more, sentence in (
        ({"layers": [2]}, r"layers=\[2\]"), ({"layers": [0], "encoder_layers": [5]}, r"encoder_layers=\[5\]"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=sentence):
            layers_of_teacher(more.pop("layers"), model(), [], task="seq2seq", **more)
    from tests.task.test_task_causal_lm import model as decoder_only

    with pytest.raises(UserError, match="leave encoder_layers out"):
        layers_of_teacher([0], decoder_only(), [], task="causal_lm", encoder_layers=[0])


def test_a_small_one_from_nothing_shares_or_parts_its_words(cache):
    shared = made()
    assert shared.get_output_embeddings().weight is shared.model.encoder.embed_tokens.weight
    symbols = load("train:symbol", ["k æ t", "d ɔ g"])
    apart = made(target_tokenizer=symbols)
    assert apart.get_output_embeddings().weight is apart.model.decoder.embed_tokens.weight
    assert len(apart.get_output_embeddings().weight) == len(symbols) != len(apart.model.encoder.embed_tokens.weight)
    assert apart.config.decoder_start_token_id == symbols.cls_token_id
    assert (apart.config.encoder_layers, apart.config.decoder_layers) == (3, 2)
    with pytest.raises(UserError, match="task=seq2seq"):
        made(task="causal_lm")
    with pytest.raises(UserError, match="multiple of heads"):
        made(heads=3)


def test_any_saved_encoder_decoder_is_read_with_the_layers_that_are_asked_for(cache, tmp_path):
    words = load("train:char", TEXTS)
    folder = save(made(tokenizer=words), words, tmp_path / "saved")
    assert task_of("MarianMTModel") == task_of("T5ForConditionalGeneration") == "seq2seq"
    whole = hf(str(folder), words, [], task="seq2seq")
    assert family(whole).encoder_depth(whole) == 3 and whole.training
    part = hf(str(folder), words, [], task="seq2seq", encoder_layers=[0, -1])
    assert (family(part).encoder_depth(part), family(part).depth(part)) == (2, 2)
    with pytest.raises(UserError, match="do not belong together"):
        hf(
            str(folder),
            words,
            [],
            task="seq2seq",
            target_tokenizer=load("train:symbol", [" ".join(map(str, range(99)))]),
        )


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_a_folder_of_another_architecture_is_read_as_it_is(kind, cache, tmp_path):
    own, words = model(kind), load("train:char", TEXTS)
    read_ = hf(str(save(own, words, tmp_path / "saved")), words, [], task="seq2seq").eval()
    assert type(read_) is type(own) and task().attach(read_) is read_
    assert torch.equal(task().read(read_, batch()).logits, task().read(own, batch()).logits)
