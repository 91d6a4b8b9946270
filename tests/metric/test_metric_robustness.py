"""Laws of perturbations, and of what is measured under them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdlab.batch import Batch
from kdlab.datamodule.processor.base import Processor
from kdlab.datamodule.rows import Rows
from kdlab.datamodule.target import Labels
from kdlab.error import UserError
from kdlab.metric.perturbation.find import perturbations, perturbed
from kdlab.metric.robustness import Robustness, area
from kdlab.task.causal_lm import CausalLM
from kdlab.task.sequence_classification import SequenceClassification

KINDS = {name: make() for name, make in perturbations().items()}
TEXTS = {name: one for name, one in KINDS.items() if one.reads == "text"}
IMAGES = {name: one for name, one in KINDS.items() if one.reads == "image"}
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x1f"), max_size=40)


@given(texts, st.integers(0, 99))
@pytest.mark.parametrize("name", TEXTS)
def test_strength_0_changes_no_text_and_a_row_is_changed_the_same_way_each_time(name, text, row):
    assert perturbed(KINDS[name], name, text, 0.0, 0, row) == text
    once, again = (perturbed(KINDS[name], name, text, 0.5, 0, row) for _ in range(2))
    assert once == again and bool(once.strip()) >= bool(text.strip())


@given(st.integers(0, 99), st.booleans())
@settings(max_examples=20)
@pytest.mark.parametrize("name", IMAGES)
def test_strength_0_changes_no_image_and_shape_and_range_stay(name, seed, coloured):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3) if coloured else (8, 9)).astype(np.uint8)
    one = KINDS[name]
    assert (one.change(pixels, 0.0, np.random.default_rng(0)) == pixels).all()
    changed = one.change(pixels, 0.7, np.random.default_rng(0))
    assert changed.shape == pixels.shape and changed.dtype == np.uint8 and (changed != pixels).any()


@pytest.mark.parametrize("name", TEXTS)
def test_more_strength_changes_more_of_a_text_and_each_text_of_a_pair(name):
    text = " ".join(["wonderful", "story", "about", "people"] * 20)
    last = 0
    for strength in (0.05, 0.2, 0.6):
        words = perturbed(KINDS[name], name, text, strength, 0, 3).split(" ")
        moved = abs(len(words) - 80) + sum(one != two for one, two in zip(words, text.split(" "), strict=False))
        assert moved >= last
        last = moved
    assert last > 0
    one, two = perturbed(KINDS[name], name, f"{text}\x1f{text}", 0.6, 0, 3).split("\x1f")
    assert one != text and two != text


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5, unique=True), st.floats(0, 1))
def test_the_area_under_a_level_curve_is_its_height(strengths, height):
    assert area([0.0, *sorted(strengths)], [height] * (len(strengths) + 1)) == pytest.approx(height)


class Letters(Processor):
    """A text as the codes of its letters."""

    inputs = ("input_ids", "attention_mask")
    digest = "letters"

    def encode(self, values, fingerprint):
        return Rows.of([[ord(letter) % 97 + 1 for letter in value] or [0] for value in values])

    def encode_new(self, values):
        return self.encode(values, "")

    def example(self, length):
        raise NotImplementedError


class Table:
    """Texts whose label is whether they have more of the letter a than of b."""

    source = "a table"

    def __init__(self, values) -> None:
        self.values, self.processor = values, Letters()
        codes = np.array([int(value.count("a") > value.count("b")) for value in values])
        self.target, self.splits = Labels(("b", "a"), codes), {"test": np.arange(len(values))}


class Counting(nn.Module):
    """Decides by the letters a and b, and counts the rows of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.largest = 0

    def forward(self, input_ids, attention_mask):
        self.largest = max(self.largest, len(input_ids))
        count = [((input_ids == letter) & (attention_mask > 0)).sum(1) for letter in (ord("b") - 96, ord("a") - 96)]
        return torch.stack(count, 1) * self.weight


def measured(values, rows, batches, **settings):
    task = SequenceClassification()
    task.prepare(["b", "a"], [1, 1])
    data = Table(values)
    metric = Robustness(rows=rows, **settings)
    metric.setup(task, data)
    for index in batches:
        metric.update(task.frame(torch.zeros(len(index), 2), None or Batch(index, {}, {})), Batch(index, {}, {}))
    model = Counting().train()
    metric.finish(model)
    assert model.training
    return metric.compute()


WORDS = np.random.default_rng(0).choice(["aa", "b", "ab", "bbb", "a"], (30, 9))
VALUES = [" ".join(words) for words in WORDS]


def test_scores_do_not_depend_on_batches_or_their_order():
    every = torch.arange(30)
    whole = measured(VALUES, None, [every])
    assert measured(VALUES, None, [every[20:], every[:20].flip(0)]) == whole
    assert set(whole) == {name for name in Robustness().higher_is_better if name.split("/")[1] not in IMAGES}
    assert whole["robustness/word_swap/flipped_0.2"] == 0, "the order of words does not matter to it"
    assert whole["robustness/word_swap/accuracy_0.2"] == 1
    assert 0 < whole["robustness/typos/flipped_0.2"] == pytest.approx(1 - whole["robustness/typos/accuracy_0.2"])
    assert whole["robustness/typos/flipped_0.05"] <= whole["robustness/typos/flipped_0.2"]
    assert len(measured(VALUES, 7, [every])) == len(whole)


def test_one_of_ones_own_takes_the_place_of_all():
    found = measured(VALUES, None, [torch.arange(30)], perturbations={"mine": KINDS["case"]}, strengths=[1.0])
    assert found["robustness/mine/accuracy_1"] == pytest.approx(np.mean(Table(VALUES).target.codes == 0), abs=1)
    assert set(found) == {f"robustness/{name}" for name in
                          ("accuracy", "flipped", "mine/area", "mine/accuracy_1", "mine/flipped_1")}  # fmt: skip


def test_wrong_use_is_one_sentence():
    with pytest.raises(UserError, match="metric=robustness compares one decision for each row"):
        Robustness().accept(CausalLM())
    with pytest.raises(UserError, match="strengths is empty"):
        Robustness(strengths=[])
    with pytest.raises(UserError, match=r"perturbations\.x is no perturbation"):
        Robustness(perturbations={"x": 3})
    with pytest.raises(
        UserError, match=r"perturbations\.noise changes a value of the kind image, and a table has text"
    ):
        measured(VALUES, None, [], perturbations={"noise": KINDS["noise"]})
