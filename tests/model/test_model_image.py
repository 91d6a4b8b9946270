"""Models of images: their taps, blocks, layers and copies, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import ConvNextConfig, DeiTConfig, ResNetConfig, ViTConfig

from kdlab.batch import Batch
from kdlab.datamodule.processor.image import Image
from kdlab.error import UserError
from kdlab.model.block import blocks
from kdlab.model.cnn import cnn
from kdlab.model.family.find import family
from kdlab.model.hf_image import hf_image
from kdlab.model.image_mlp import image_mlp
from kdlab.model.layers_of_teacher import layers_of_teacher
from kdlab.model.save import load, save
from kdlab.model.tap import available, read
from kdlab.model.vit import vit

LABELS = ["no", "yes", "perhaps"]
SIDE = 8
VIT = {
    "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "image_size": SIDE,
    "patch_size": 4, "num_channels": 1,
}  # fmt: skip
CONFIGS = {
    "resnet": ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic", num_channels=1),
    "convnext": ConvNextConfig(hidden_sizes=[4, 6], depths=[1, 1], num_stages=2, num_channels=1, patch_size=2),
    "vit": ViTConfig(**VIT),
    "deit": DeiTConfig(**VIT),
}
PLACES = {"resnet": (4, 1, 6), "convnext": (16, 4, 6), "vit": (5, 5, 8), "deit": (6, 6, 8)}
OWN = {
    "cnn": lambda: cnn([4, 6], 1, 0.0, LABELS, 1, SIDE),
    "image_mlp": lambda: image_mlp(6, 3, 0.0, LABELS, 1, SIDE),
    "vit": lambda: vit(8, 2, 2, 16, 4, 0.0, LABELS, 1, SIDE),
}


def batch(rows: int = 3) -> Batch:
    return Batch(torch.arange(rows), {"pixel_values": torch.randn(rows, 1, SIDE, SIDE)})


@pytest.fixture(params=CONFIGS)
def kind(request, tmp_path):
    """The kind, and a directory with the config of a model of it."""
    CONFIGS[request.param].save_pretrained(tmp_path / "shape")
    return request.param, tmp_path / "shape"


def test_models_of_transformers_are_made_read_saved_and_loaded(kind, tmp_path):
    name, shape = kind
    model = hf_image(str(shape), LABELS, 1, SIDE, pretrained=False).eval()
    save(model, Image(SIDE, 1, (0.5,), (0.5,)), tmp_path / "model")
    again, tokenizer = load(tmp_path / "model")
    given = batch()
    taps = available(model)
    logits, found = read(again, given, [tap for tap in taps if not tap.startswith("attention")])
    torch.testing.assert_close(logits, model(**given.inputs).logits)
    assert logits.shape == (3, 3) and tokenizer is None
    first, last, width = PLACES[name]
    assert found["hidden.0"].shape[:2] == (3, first) and found["hidden.1"].shape == (3, last, width)
    assert found["embedding"].ndim == 3 and found["pooled"].ndim == 2
    assert family(model).axes(model, "hidden.0") == ("row", "place", "width")
    assert [block.name for block in blocks(model)] == ["embedding", "layer.0", "layer.1", "head"]
    pretrained = hf_image(str(tmp_path / "model"), LABELS[:2], 1, SIDE)
    assert pretrained.train().config.num_labels == 2


def test_layers_of_a_transformer_are_kept_and_stages_are_refused(kind):
    name, shape = kind
    model = hf_image(str(shape), LABELS, 1, SIDE, pretrained=False)
    if name in ("vit", "deit"):
        assert family(layers_of_teacher([1], model, LABELS, task="image_classification")).depth(model) == 2
        assert hf_image(str(shape), LABELS, 1, SIDE, layers=[0], pretrained=False).config.num_hidden_layers == 1
    else:
        with pytest.raises(UserError, match="whose stages have different widths"):
            layers_of_teacher([1], model, LABELS, task="image_classification")


def test_attention_maps_of_a_vision_transformer_are_probabilities():
    model = OWN["vit"]().eval()
    _, found = read(model, batch(), ["attention.0"])
    torch.testing.assert_close(found["attention.0"].sum(-1), torch.ones(3, 2, 5))


@pytest.mark.parametrize("name", OWN)
def test_own_models_have_taps_and_blocks(name):
    model = OWN[name]().eval()
    logits, found = read(model, batch(), [tap for tap in available(model) if not tap.startswith("attention")])
    assert logits.shape == (3, 3) and found["hidden.-1" if "hidden.-1" in found else "hidden.1"] is not None
    cut = blocks(model)
    assert [block.name for block in cut][:2] == ["embedding", "layer.0"] and cut[-1].name == "head"
    assert sum(len(block.parameters) for block in cut) == len(list(model.parameters()))


def test_layers_of_a_cnn_follow_each_other():
    model = cnn([4, 6], 2, 0.0, LABELS, 1, SIDE)
    student = layers_of_teacher([0, 2, 3], model, LABELS)
    assert student.eval()(batch().inputs["pixel_values"]).shape == (3, 3)
    with pytest.raises(UserError, match="layer 3 reads 6 channels, and 4 come before it"):
        layers_of_teacher([0, 3], model, LABELS)
    with pytest.raises(UserError, match="the last gives 4 channels, and its head reads 6"):
        layers_of_teacher([0], model, LABELS)


def test_what_does_not_fit_is_one_sentence(kind, tmp_path):
    name, shape = kind
    if name in ("vit", "deit"):
        model = hf_image(str(shape), LABELS, 1, SIDE, pretrained=False)
        save(model, None, tmp_path / "model")
        with pytest.raises(UserError, match="reads images of 8 x 8 pixels, and those of the data have 12"):
            hf_image(str(tmp_path / "model"), LABELS, 1, 12)
    with pytest.raises(UserError, match=r"set datamodule\.channels=1"):
        model = hf_image(str(shape), LABELS, 1, SIDE, pretrained=False)
        Image(SIDE, 3, (0.5,) * 3, (0.5,) * 3).check(model, np.ones(1))
    with pytest.raises(UserError, match="patch_size=3 must divide the side"):
        vit(8, 2, 2, 16, 3, 0.0, LABELS, 1, SIDE)
    with pytest.raises(UserError, match="heads=3 must divide"):
        vit(8, 2, 3, 16, 4, 0.0, LABELS, 1, SIDE)
    with pytest.raises(UserError, match="name at least one width"):
        cnn([1] * 6, 1, 0.0, LABELS, 1, SIDE)


def test_a_model_of_texts_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    with pytest.raises(UserError, match="transformers has no image classifier of"):
        hf_image(str(tmp_path), LABELS, 1, SIDE, pretrained=False)
