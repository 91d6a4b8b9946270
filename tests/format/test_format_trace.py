"""A traced model computes what the model computes, for batches of any size and length; ONNX as well."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

from kdlab.error import UserError
from kdlab.format.onnx import INSTRUCTIONS, REDUCED, Onnx
from kdlab.format.parity import difference, equal_share
from kdlab.format.safetensors import Safetensors
from kdlab.format.torch_export import TorchExport
from kdlab.format.trace import Example, Logits
from kdlab.model.architecture.mlp import MLP, MLPConfig
from kdlab.model.cnn import CNN

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
IMAGE = {"image_size": 8, "patch_size": 2, "num_channels": 1}
SHAPES = [(rows, length) for rows in (1, 2, 7) for length in (3, 11)]
TEXTS, IMAGES = {0: "batch", 1: "length"}, {0: "batch"}


def texts(rows: int, length: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 90, (rows, length), generator=torch.Generator().manual_seed(rows + length))
    mask = (torch.arange(length) < torch.arange(1, rows + 1)[:, None] + length // 2).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def images(rows: int, length: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(rows))}


def mlp(depth: int, kind: str) -> nn.Module:
    return MLP(MLPConfig(vocab_size=100, depth=depth, width=8, input=kind, embedding_size=8, num_labels=3))


MODELS = {
    "linear": (lambda: mlp(1, "bag"), texts),
    "mlp": (lambda: mlp(2, "embedding"), texts),
    "cnn": (lambda: CNN(1, [4, 8], 1, 0.0, 3), images),
    "vit": (lambda: ViTForImageClassification(ViTConfig(**SMALL, **IMAGE, num_labels=3)), images),
    "bert": (lambda: BertForSequenceClassification(BertConfig(vocab_size=100, **SMALL, num_labels=3)), texts),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("linear", "cnn", "vit", "bert")]


def differences(form, name: str, folder) -> dict[tuple[int, int], float]:
    """The largest difference of logits in each shape, after a model was written and loaded."""
    torch.manual_seed(0)
    make, inputs = MODELS[name]
    model, example = make().eval(), inputs(3, 7)
    form.write(model, Example(example, dict.fromkeys(example, TEXTS if inputs is texts else IMAGES)), folder)
    run, original = form.load(folder, list(example)), Logits(model, list(example))
    with torch.no_grad():
        return {
            shape: difference(original(*inputs(*shape).values()), run(inputs(*shape)))
            for shape in SHAPES
        }  # fmt: skip


@pytest.mark.parametrize("name", ["mlp", *SLOW])
def test_a_traced_program_computes_the_same_for_any_batch_and_length(name, tmp_path):
    assert max(differences(TorchExport(), name, tmp_path).values()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "cnn", "bert"])
def test_onnx_computes_the_same_for_any_batch_and_length(name, tmp_path):
    pytest.importorskip("onnxscript")
    assert max(differences(Onnx(), name, tmp_path).values()) < 1e-5
    import onnx

    first = onnx.load(str(tmp_path / "model.onnx")).graph.input[0]
    assert [one.dim_param for one in first.type.tensor_type.shape.dim][:1] == ["batch"]


@pytest.mark.slow
def test_onnx_of_8_bits_is_close_and_has_no_float_table_left(tmp_path):
    pytest.importorskip("onnxscript")
    found = differences(Onnx(int8=True), "bert", tmp_path)
    assert 0 < max(found.values()) < 0.05
    import onnx

    large = [one for one in onnx.load(str(tmp_path / "model.onnx")).graph.initializer if np.prod(one.dims) >= 256]
    assert large and all(one.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT64)
                         for one in large)  # fmt: skip


def test_8_bits_name_the_instructions_that_they_need():
    assert list(Onnx().notes()) == []
    assert "VNNI" in INSTRUCTIONS and list(Onnx(int8=True).notes()) == [INSTRUCTIONS]
    assert list(Onnx(int8=True, reduce_range=True).notes()) == [REDUCED]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_safetensors_are_loaded_by_transformers_in_their_number_format(dtype, tmp_path):
    found = differences(Safetensors(dtype), "bert", tmp_path)
    assert max(found.values()) < {"float32": 1e-6, "bfloat16": 0.01}[dtype]
    bytes_ = (tmp_path / "model.safetensors").stat().st_size
    loaded = BertForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.dtype == getattr(torch, dtype)
    numbers = sum(parameter.numel() for parameter in loaded.parameters())
    assert bytes_ < numbers * loaded.dtype.itemsize + 10_000


def test_a_class_of_kdlab_is_not_written_as_weights_alone(tmp_path):
    with pytest.raises(UserError, match=r"MLP is a class of kdlab.*format=onnx"):
        differences(Safetensors(), "mlp", tmp_path)


def test_a_model_that_cannot_be_traced_is_one_sentence(tmp_path):
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.Linear(8, 2)

        def forward(self, pixel_values):
            rows = pixel_values.mean((1, 2))
            return self.classifier(rows) if float(rows.sum()) > 0 else self.classifier(-rows)

    example = images(3, 0)
    with pytest.raises(UserError, match=r"cannot trace a Odd .*format=safetensors") as caught:
        TorchExport().write(Odd().eval(), Example(example, {"pixel_values": IMAGES}), tmp_path)
    assert "\n" not in str(caught.value)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_share_of_equal_decisions_is_that_of_equal_pairs(pairs):
    first, second = torch.tensor(pairs).T
    assert equal_share(first, second) == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert equal_share(first, first) == 1


def test_a_number_that_is_missing_on_one_side_is_an_infinite_difference():
    assert difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, torch.nan])) == torch.inf
