"""A pass over all rows says what the model says of each batch, in an order that does not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from small import crossed, nodes, shrink, small, tiny_teacher

from kdlab.artifact.trained import named
from kdlab.config import build, conf
from kdlab.precision import computing
from kdlab.store import inference
from kdlab.store.inference import run_inference

TAPS = ["hidden.-1", "attention.0", "pooled"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory, reviews):
    """A model, its task and data."""
    folder = tmp_path_factory.mktemp("inference")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        job = small("distill", ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}"])
        job = crossed(job, student=shrink(nodes("model")["model"]["bert_tiny"]))
        model = named(str(tiny_teacher(job, folder / "teacher")), folder).model
        data = build.data(job.cfg)
        yield model, build.task(job.cfg, data), data


def everything(asked, taps, dtype="float32", begin=0, tokens=256):
    """What the model says of all batches, or of those from one on."""
    model, task, data = asked
    batches = data.every_row(tokens)
    return list(run_inference(model, task, data.lengths, batches, iter(range(begin, len(batches))), taps, dtype))


def test_every_row_is_said_once_and_as_it_is_read_alone(asked):
    model, task, data = asked
    parts = everything(asked, TAPS)
    assert sorted(np.concatenate([part.rows for part in parts])) == data.used.tolist()
    batches = list(data.every_row(256))
    assert len(parts) == len(batches) > 3
    for part, batch in zip(parts, batches, strict=True):
        with torch.no_grad():
            alone = task.read(model.eval(), batch, TAPS)
        real = batch.tokens
        kind, logits = part.values["logits"]
        assert kind == "row" and part.rows.tolist() == batch.row.tolist()
        np.testing.assert_allclose(logits, alone.logits, rtol=1e-5, atol=1e-6)
        assert {name: kind for name, (kind, _) in part.values.items()} == {
            "logits": "row", "hidden.-1": "token", "attention.0": "pair", "pooled": "row",
        }  # fmt: skip
        np.testing.assert_allclose(part.values["hidden.-1"][1], alone.taps["hidden.-1"][real], rtol=1e-5, atol=1e-5)


def test_one_row_is_a_batch(asked):
    ones, several = everything(asked, ["hidden.-1"], tokens=1), everything(asked, ["hidden.-1"])
    assert [part.rows.tolist() for part in ones] == [[row] for part in several for row in part.rows]
    for name in ("logits", "hidden.-1"):
        singly, together = (np.concatenate([part.values[name][1] for part in parts]) for parts in (ones, several))
        np.testing.assert_allclose(singly, together, rtol=1e-5, atol=1e-6)


def test_it_goes_on_where_it_was_left(asked):
    whole = everything(asked, [])
    rest = everything(asked, [], begin=2)
    assert len(rest) == len(whole) - 2
    for one, two in zip(whole[2:], rest, strict=True):
        assert one.rows.tolist() == two.rows.tolist()
        np.testing.assert_array_equal(one.values["logits"][1], two.values["logits"][1])


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_however_many_read_they_say_the_same_and_leave_the_threads_as_they_were(asked, monkeypatch, cores):
    before = torch.get_num_threads()
    monkeypatch.setattr(inference, "cores", lambda: 1)
    one = everything(asked, TAPS)
    monkeypatch.setattr(inference, "cores", lambda: cores)
    several = everything(asked, TAPS)
    for mine, theirs in zip(one, several, strict=True):
        for name, (kind, values) in mine.values.items():
            assert theirs.values[name][0] == kind
            np.testing.assert_array_equal(theirs.values[name][1], values)
    assert torch.get_num_threads() == before


def test_it_computes_in_the_callers_precision(asked):
    full, *_ = everything(asked, [])
    with computing("bf16-mixed"):
        half, *_ = everything(asked, [])
    difference = np.abs(full.values["logits"][1] - half.values["logits"][1]).max()
    assert 0 < difference < 0.2 * np.abs(full.values["logits"][1]).max()


def test_half_types_take_half_the_room(asked):
    sizes = {}
    for dtype in ("float32", "float16", "bfloat16"):
        part, *_ = everything(asked, ["hidden.-1"], dtype)
        sizes[dtype] = part.values["hidden.-1"][1].nbytes
        assert part.values["logits"][1].dtype == np.float32
    assert sizes["float16"] == sizes["bfloat16"] == sizes["float32"] / 2


@pytest.mark.parametrize(
    ("gpus", "told", "expected"),
    [
        (0, {}, ["cpu"] * 4),
        (2, {}, ["cuda:0", "cuda:1"]),
        (2, {"LOCAL_RANK": "1"}, ["cuda:1"]),
        (1, {"LOCAL_RANK": "1"}, ["cuda:0"]),
        (0, {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, ["cpu"] * 2),
        (0, {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8"}, ["cpu"]),
    ],
)
def test_a_process_of_several_reads_on_its_own_device(monkeypatch, gpus, told, expected):
    """SLURM may show each process one GPU only."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(inference, "cores", lambda: 4)
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert inference.devices() == expected
    with computing("32-true", "cpu"):
        assert not any(device.startswith("cuda") for device in inference.devices())
    with computing("bf16-mixed", "gpu"):
        assert inference.devices() == expected
