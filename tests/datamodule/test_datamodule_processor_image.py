"""Images become the same pixels wherever they are read, and a saved processor makes them again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from kdlab.datamodule.processor.image import SAVED, Drawn, Image, fitted, opened, read
from kdlab.error import UserError

GRAY = Image(4, 1, (0.25,), (0.5,))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))


def drawn(*shape: int) -> Drawn:
    return Drawn(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8), "one")


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 12),
    st.sampled_from([1, 3]),
    st.sampled_from(["crop", "stretch"]),
)
def test_any_image_has_the_asked_shape(height, width, size, channels, fit):
    image = Pillow.fromarray(np.zeros((height, width, 3), np.uint8))
    assert fitted(image, size, channels, fit, size, "bilinear").shape == (channels, size, size)


def test_an_image_of_the_right_size_is_left_as_it_is_and_a_longer_side_is_cut():
    pixels = drawn(4, 4).pixels
    assert (fitted(Pillow.fromarray(pixels), 4, 1, "crop", 4, "bilinear")[0] == pixels).all()
    wide = drawn(4, 8).pixels
    assert (fitted(Pillow.fromarray(wide), 4, 1, "crop", 4, "bilinear")[0] == wide[:, 2:6]).all()


def test_what_is_transparent_is_white():
    image = Pillow.fromarray(np.zeros((2, 2, 4), np.uint8), "RGBA")
    assert fitted(image, 2, 3, "crop", 2, "nearest").min() == 255


def test_pixels_are_normalised_and_the_cache_gives_them_again(monkeypatch):
    values = [drawn(4, 4), drawn(4, 4)]
    found = GRAY.encode(values, "a")
    expected = (torch.from_numpy(values[0].pixels).float() / 255 - 0.25) / 0.5
    torch.testing.assert_close(found.collate(np.array([1]))[0]["pixel_values"][0, 0], expected)
    assert found.costs.tolist() == [1, 1] and GRAY.inputs == tuple(found.collate(np.array([0]))[0])
    monkeypatch.setattr("kdlab.datamodule.processor.image.fitted", None)
    assert (GRAY.encode(values, "a").pixels == found.pixels).all()


@pytest.mark.parametrize(
    "one",
    [
        GRAY,
        Image(8, 3, (0.1, 0.2, 0.3), (1.0, 0.5, 0.25), "stretch", 10, "bicubic"),
        Image(6, 3, (0.5,) * 3, (0.5,) * 3),
    ],
)
def test_a_saved_processor_is_the_same(one, tmp_path):
    one.save_pretrained(tmp_path)
    assert read(tmp_path).equals(one) and one.saved(tmp_path) is not None
    assert json.loads((tmp_path / "processor.json").read_text()) == {"channels": one.channels, "size": one.size}


def test_transformers_reads_what_is_saved_and_makes_the_same_pixels(tmp_path):
    from transformers import CLIPImageProcessor

    one = Image(6, 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), resize=8)
    one.save_pretrained(tmp_path)
    image = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(np.uint8))
    theirs = CLIPImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"]
    ours = one.encode_new([Drawn(np.asarray(image), "one")]).collate(np.array([0]))[0]["pixel_values"]
    torch.testing.assert_close(ours, theirs, atol=0.03, rtol=0)  # a gray value of 255, divided by the least std


SCALE = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
CONFIGS = {
    "ViT": ({"size": {"height": 224, "width": 224}, **SCALE}, (224, 224, "stretch")),
    "DeiT": (
        {"size": {"height": 256, "width": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True,
         **SCALE}, (224, 256, "stretch"),
    ),
    "ResNet": ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, **SCALE}, (224, 256, "crop")),
    "older": ({"size": 224, **SCALE}, (224, 224, "stretch")),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_configs_of_transformers_are_read(kind, tmp_path):
    content, expected = CONFIGS[kind]
    (tmp_path / SAVED).write_text(json.dumps(content))
    found = read(tmp_path)
    assert (found.size, found.resize, found.fit) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"size": {"height": 3, "width": 4}}, "kdlab reads squares"),
        ({"size": 4, "rescale_factor": 1.0}, "a rescale_factor that kdlab does not know"),
    ],
)
def test_other_configs_are_refused_in_one_sentence(content, message, tmp_path):
    (tmp_path / SAVED).write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read(tmp_path)
    with pytest.raises(UserError, match=f"has no {SAVED}"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"hello"])
def test_a_broken_image_is_one_sentence(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png is no image that can be read"):
        opened(str(tmp_path / "a.png"))


def test_an_image_that_ends_early_is_one_sentence(tmp_path):
    Pillow.fromarray(drawn(40, 40, 3).pixels).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.png is no image that can be read"):
        GRAY.encode([str(tmp_path / "a.png")], "b")
