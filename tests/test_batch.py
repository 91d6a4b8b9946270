"""A batch moves as a whole, and teachers read it as it was."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlab.batch import Batch


def made(rows, length=3):
    values = torch.arange(rows * length).view(rows, length)
    clean = Batch(torch.arange(rows), {"x": values}, {"label": torch.zeros(rows)}, {"rows": 8.0}, values > 0)
    return replace(clean, inputs={"x": values + 1}, clean=clean)


@given(st.integers(1, 6), st.integers(1, 4))
def test_everything_moves_and_what_two_views_share_moves_once(rows, length):
    batch = made(rows, length)
    moved = batch.to(torch.device("meta"))
    tensors = [moved.row, moved.tokens, *moved.inputs.values(), *moved.target.values(), *moved.clean.inputs.values()]
    assert {one.device.type for one in tensors} == {"meta"} and moved.device.type == moved.clean.device.type == "meta"
    assert moved.row is moved.clean.row and moved.target["label"] is moved.clean.target["label"]
    assert len(moved) == rows and moved.length == length and moved.size == batch.size


def test_teachers_read_the_rows_before_augmentation():
    batch = made(2)
    assert batch.original is batch.clean and batch.original.original is batch.original


def test_some_of_the_rows_stand_for_themselves():
    part = made(5).rows(slice(3, 5))
    assert part.row.tolist() == part.clean.row.tolist() == [3, 4] and part.size == {} and part.tokens.shape == (2, 3)


def test_rows_without_a_token_axis_have_no_length():
    batch = Batch(torch.arange(2), {"pixel_values": torch.ones(2, 1, 4, 4)})
    assert batch.tokens is None and batch.length == 0 and batch.to("cpu").tokens is None


def test_lightning_moves_it():
    from lightning.pytorch.utilities import move_data_to_device

    moved = move_data_to_device(made(2), torch.device("meta"))
    assert isinstance(moved, Batch) and moved.device.type == "meta"
