import pytest
import torch
from torch.nn.functional import one_hot
from transformers import AutoModelForSequenceClassification

from kdlab.error import UserError
from kdlab.model.mlp import mlp
from kdlab.model.tap import available, read
from tests.batches import text


def counts(batch, words):
    """[B, V] word counts without padding, divided by the row's length."""
    real = batch["attention_mask"]
    return (one_hot(batch["input_ids"], words) * real[..., None]).sum(1) / real.sum(-1, keepdim=True)


def test_depth_1_on_a_bag_is_one_linear_layer_on_word_shares(make_mlp, batch, tokenizer):
    model = make_mlp(1, "bag")
    model.words.bias.data.normal_()
    reference = counts(batch, len(tokenizer)) @ model.words.table.weight + model.words.bias
    torch.testing.assert_close(model(**batch).logits, reference)


def test_depth_2_on_a_bag_has_one_relu(make_mlp, batch, tokenizer):
    model = make_mlp(2, "bag")
    hidden = (counts(batch, len(tokenizer)) @ model.words.table.weight + model.words.bias).relu()
    torch.testing.assert_close(model(**batch).logits, model.classifier(hidden))


def test_embeddings_are_averaged(make_mlp, batch, tokenizer):
    model = make_mlp(2, "embedding")
    mean = counts(batch, len(tokenizer)) @ model.words.table.weight
    torch.testing.assert_close(model(**batch).logits, model.classifier(model.layers[0][0](mean).relu()))


@pytest.mark.parametrize("input", ["bag", "embedding"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_padding_order_and_row_mates_do_not_matter(input, depth, make_mlp, batch):
    model = make_mlp(depth, input)
    wide = {name: torch.nn.functional.pad(value, (0, 4)) for name, value in batch.items()}
    torch.testing.assert_close(model(**wide).logits, model(**batch).logits)
    flipped = {name: value.flip(1) for name, value in batch.items()}
    torch.testing.assert_close(model(**flipped).logits, model(**batch).logits)
    assert torch.isfinite(model(batch["input_ids"], torch.zeros_like(batch["input_ids"])).logits).all()


@pytest.mark.parametrize("input", ["bag", "embedding"])
def test_linear_layers_are_counted(input, make_mlp, batch):
    for depth in (1, 2, 3):
        model = make_mlp(depth, input)
        linears = sum(isinstance(module, torch.nn.Linear) for module in model.modules())
        assert linears + (input == "bag") == depth
        names = ["embedding", *(f"hidden.{index}" for index in range(depth - 1))]
        assert available(model) == names + (["pooled"] if linears else [])
        logits, taps = read(model, text(batch), available(model))
        assert torch.equal(logits, read(model, text(batch))[0])
        assert taps["embedding"].shape[:2] == (3, 5)
        if depth > 1:
            assert torch.equal(taps[f"hidden.{depth - 2}"][:, 0], taps["pooled"])


@pytest.mark.parametrize("input", ["bag", "embedding"])
@pytest.mark.parametrize("depth", [1, 3])
def test_it_saves_and_loads_through_the_auto_classes(input, depth, make_mlp, batch, tmp_path):
    model = make_mlp(depth, input)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.config.id2label == model.config.id2label
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_it_can_start_from_the_word_embeddings_of_a_model(make, make_mlp, tmp_path):
    teacher = make("bert")
    teacher.save_pretrained(tmp_path)
    model = make_mlp(2, pretrained_embedding=str(tmp_path))
    assert torch.equal(model.words.table.weight, teacher.get_input_embeddings().weight)
    assert model.config.embedding_size == 8
    with pytest.raises(UserError, match="input=embedding"):
        make_mlp(2, "bag", pretrained_embedding=str(tmp_path))
    with pytest.raises(UserError, match="no transformers model"):
        make_mlp(2, pretrained_embedding=str(tmp_path / ".."))


def test_a_linear_bag_learns_which_word_means_what(tokenizer):
    model = mlp(1, 4, "bag", 4, 0.0, tokenizer, ["x", "y"])
    ids = torch.tensor([[2, 3, 4], [2, 5, 4]])
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(ids).logits, torch.tensor([0, 1])).backward()
        optimizer.step()
    assert model(ids).logits.argmax(-1).tolist() == [0, 1]


@pytest.mark.parametrize(("depth", "input"), [(0, "bag"), (2, "sum")])
def test_impossible_shapes_are_told(depth, input, make_mlp):
    with pytest.raises(UserError, match="bag, embedding"):
        make_mlp(depth, input)
