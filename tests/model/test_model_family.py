"""The family of a model: declared, claimed, or plain; and what a family of one's own needs to write."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BartConfig, BartForSequenceClassification, PreTrainedModel

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.model.block import Block, blocks
from kdlab.model.family.base import Family
from kdlab.model.family.decoder import Decoder
from kdlab.model.family.encoder import Encoder
from kdlab.model.family.find import auto, family, task_of
from kdlab.model.family.origin import Returned
from kdlab.model.family.plain import Plain
from kdlab.model.family.stack import Stack
from kdlab.model.family.transformer import Transformer
from kdlab.model.layers_of_teacher import layers_of_teacher
from kdlab.model.save import load, save
from kdlab.model.tap import available, read
from tests.batches import text


class Patches(nn.Module):
    """Layers on ``[B, width, patch]``, in a list of either kind."""

    family = Stack("body.layers", axes=("row", "width", "patch"))

    def __init__(self, kind=nn.ModuleList, depth=3, labels=2):
        super().__init__()
        self.stem = nn.Conv1d(1, 4, 1)
        self.body = nn.Module()
        layers = [nn.Conv1d(4, 4, 1) for _ in range(depth)]
        self.body.layers = nn.ModuleList(layers) if kind is nn.ModuleList else nn.Sequential(*layers)
        self.classifier = nn.Linear(4, labels)

    def forward(self, pixels):
        hidden = self.stem(pixels)
        for layer in self.body.layers:
            hidden = layer(hidden)
        return self.classifier(hidden.mean(-1))


def pixels(rows=2):
    return Batch(torch.arange(rows), {"pixels": torch.randn(rows, 1, 5)})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bert", Encoder), ("roberta", Encoder), ("albert", Encoder), ("gpt2", Decoder), ("llama", Decoder)],
)
def test_text_models_are_encoders_or_decoders(name, expected, make):
    assert type(family(make(name))) is expected


def test_a_model_declares_its_family_before_any_claims_it(make):
    assert type(family(nn.Linear(2, 2))) is Plain
    model = make("bert")
    model.family = Stack("bert.encoder.layer")
    assert "hidden.3" in available(model) and "attention.0" not in available(model)
    model.family = "encoder"
    with pytest.raises(UserError, match=r"BertForSequenceClassification\.family is a str, but must be"):
        family(model)


def test_the_class_that_loads_models_for_a_task_is_found_by_its_name():
    assert auto("causal_lm").__name__ == "AutoModelForCausalLM"
    assert task_of("LlamaForCausalLM") == "causal_lm"
    with pytest.raises(UserError, match="no family of models is for the task weaving: choose one of causal_lm"):
        auto("weaving")


@pytest.mark.parametrize("kind", [nn.ModuleList, nn.Sequential])
def test_a_stack_has_taps_blocks_and_students_of_its_layers(kind):
    teacher = Patches(kind).eval()
    assert available(teacher) == ["hidden.0", "hidden.1", "hidden.2", "pooled"]
    batch = pixels()
    logits, taps = read(teacher, batch, ["hidden.-1", "pooled"])
    assert taps["hidden.-1"].shape == (2, 5, 4), "the features are its last axis"
    assert family(teacher).axes(teacher, "hidden.-1") == ("row", "patch", "width")
    torch.testing.assert_close(taps["hidden.-1"].mean(1), taps["pooled"])
    torch.testing.assert_close(teacher.classifier(taps["pooled"]), logits)
    cut = blocks(teacher)
    assert [block.name for block in cut] == ["embedding", "layer.0", "layer.1", "layer.2", "head"]
    assert cut[0].modules == [teacher.stem] and cut[-1].modules == [teacher.classifier]
    student = layers_of_teacher([0, -1], teacher, ["a", "b", "c"], task="image_classification")
    assert family(student).depth(student) == 2 and type(student.body.layers) is kind
    assert torch.equal(student.body.layers[1].weight, teacher.body.layers[2].weight)
    assert student.body.layers[1].weight is not teacher.body.layers[2].weight
    assert read(student, batch)[0].shape == (2, 3), "a head for other labels is new"
    drawn = layers_of_teacher(None, teacher, ["a", "b"], pretrained=False)
    assert not torch.equal(drawn.stem.weight, teacher.stem.weight)


def test_a_stack_without_such_a_list_is_named():
    model = Patches()
    model.family = Stack("body.stages")
    with pytest.raises(UserError, match=r"Patches declares its layers at 'body\.stages', where there is nothing"):
        blocks(model)
    model.family = Stack("stem")
    with pytest.raises(UserError, match=r"where there is a Conv1d: name an nn\.ModuleList or nn\.Sequential"):
        available(model)


def test_weights_that_cannot_be_drawn_are_named():
    model = Patches()
    model.body.gain = nn.Parameter(torch.ones(1))
    with pytest.raises(UserError, match=r"pretrained=false draws new weights, but 'body' of Patches has no method"):
        layers_of_teacher(None, model, ["a", "b"], pretrained=False)


def test_a_submodule_that_is_called_blocks_is_no_method(tmp_path):
    class Named(nn.Module):
        family = Stack("blocks")

        def __init__(self):
            super().__init__()
            self.stem, self.blocks, self.head = nn.Linear(1, 2), nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2)

        def forward(self, pixels):
            return self.head(self.blocks(self.stem(pixels)))

    model = Named()
    assert [block.name for block in blocks(model)] == ["embedding", "layer.0", "head"]
    again, _ = load(save(model, None, tmp_path / "model"), build=Named)
    assert all(torch.equal(one, two) for one, two in zip(again.parameters(), model.parameters(), strict=True))


def test_encoder_and_decoder_together_are_one_class(batch):
    """Two stacks of layers, a decoder that reads the encoder: no line elsewhere."""

    class Seq2Seq(Transformer):
        auto = {"seq2seq_lm": "AutoModelForSeq2SeqLM"}  # noqa: RUF012
        architectures = {"ForConditionalGeneration": "seq2seq_lm"}  # noqa: RUF012

        @classmethod
        def claims(cls, model: nn.Module) -> bool:
            return isinstance(model, PreTrainedModel) and bool(model.config.is_encoder_decoder)

        def options(self, model, origins):
            return {"output_hidden_states": bool(origins)}

        def taps(self, model):
            found = {}
            for side, depth in (("encoder", model.config.encoder_layers), ("decoder", model.config.decoder_layers)):
                for layer in range(depth):
                    found[f"{side}.{layer}"] = Returned(f"{side}_hidden_states", layer + 1)
            return found | self.pooled(model)

        def blocks(self, model):
            body = model.model
            layers = [*body.encoder.layers, *body.decoder.layers]
            named = [Block(f"layer.{number}", [layer]) for number, layer in enumerate(layers)]
            return [Block("embedding", [body.shared]), *named, Block("head", [model.classification_head])]

    try:
        config = BartConfig(
            vocab_size=18, d_model=8, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2, num_labels=3,
            decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=32, eos_token_id=2,
            pad_token_id=0, bos_token_id=1, decoder_start_token_id=2, forced_eos_token_id=2,
        )  # fmt: skip
        model = BartForSequenceClassification(config).eval()
        assert type(family(model)) is Seq2Seq and auto("seq2seq_lm").__name__ == "AutoModelForSeq2SeqLM"
        ids = torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]])
        given = text({"input_ids": ids, "attention_mask": (ids != 0).long()})
        _, taps = read(model, given, ["encoder.-1", "decoder.2"])
        assert taps["encoder.-1"].shape == taps["decoder.2"].shape == (2, 4, 8)
        assert [block.name for block in blocks(model)][1:-1] == [f"layer.{number}" for number in range(5)]
    finally:
        Seq2Seq.claims = classmethod(lambda cls, model: False)  # other tests of this process do without it


def test_of_several_that_claim_a_model_the_highest_rank_is_taken(make):
    class Other(Transformer):
        rank = 7
        wanted = True

        @classmethod
        def claims(cls, model: nn.Module) -> bool:
            return cls.wanted and isinstance(model, PreTrainedModel)

    assert issubclass(Other, Family) and type(family(make("gpt2"))) is Other
    Other.wanted = False
    assert type(family(make("gpt2"))) is Decoder
