import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from kdlab.error import UserError
from kdlab.model.layers_of_teacher import layers_of_teacher
from kdlab.model.save import load, save, weights_sha256
from kdlab.model.tap import read
from tests.batches import text

FAMILIES = ["bert", "distilbert", "roberta", "gpt2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_give_the_teachers_logits_exactly(family, make, tokenizer, labels, batch):
    teacher = make(family)
    student = layers_of_teacher([0, 1, 2, 3], teacher, labels, tokenizer)
    assert student.training and not teacher.training
    assert torch.equal(student.eval()(**batch).logits, teacher(**batch).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lowest_layers_compute_what_the_teachers_do(family, make, tokenizer, labels, batch):
    teacher = make(family)
    student = layers_of_teacher([0, 1, -1], teacher, labels, tokenizer).eval()
    assert student.config.num_hidden_layers == 3
    taps = ["embedding", "hidden.0", "hidden.1"]
    mine, theirs = read(student, text(batch), taps)[1], read(teacher, text(batch), taps)[1]
    assert all(torch.equal(mine[tap], theirs[tap]) for tap in taps)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_saves_and_loads_like_any_other(family, make, tokenizer, labels, batch, tmp_path):
    student = layers_of_teacher([3, 1], make(family), labels, tokenizer).eval()
    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).logits, student(**batch).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_teacher_is_neither_changed_nor_shared(family, make, tokenizer, labels):
    teacher = make(family).requires_grad_(False)
    before, config = weights_sha256(teacher), teacher.config.to_dict()
    student = layers_of_teacher([0, -1], teacher, ["x", "y"], tokenizer)
    for parameter in student.parameters():
        assert parameter.requires_grad
        parameter.data.fill_(7)
    assert weights_sha256(teacher) == before
    assert teacher.config.to_dict() == config
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_random_weights_keep_the_shape(make, tokenizer, labels):
    teacher = make("bert")
    copied = layers_of_teacher([0, 2], teacher, labels, tokenizer)
    drawn = layers_of_teacher([0, 2], teacher, labels, tokenizer, pretrained=False)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (copied, drawn)]
    assert shapes[0] == shapes[1]
    assert weights_sha256(copied) != weights_sha256(drawn)


def test_another_number_of_labels_gets_a_new_head(make, tokenizer, batch):
    student = layers_of_teacher([0], make("roberta"), list("vwxyz"), tokenizer)
    assert student(**batch).logits.shape == (3, 5)
    assert list(student.config.id2label.values()) == list("vwxyz")


@pytest.mark.parametrize("layers", [[4], [-5], [0, 0], [1, -3], []])
def test_impossible_layers_tell_how_many_there_are(layers, make, tokenizer, labels):
    with pytest.raises(UserError, match="it has 4 layers"):
        layers_of_teacher(layers, make("bert"), labels, tokenizer)


def test_a_teacher_without_layers_is_refused(tokenizer, labels):
    with pytest.raises(UserError, match="none are known of the teacher, a Linear"):
        layers_of_teacher([0], torch.nn.Linear(2, 2), labels, tokenizer)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_keeps_its_head_tied_to_its_embeddings_and_its_final_norm(
    family, tied, make, tokenizer, tmp_path
):
    config = make(family).config
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    teacher = AutoModelForCausalLM.from_config(config).eval()
    norm = {"gpt2": "transformer.ln_f.weight", "llama": "model.norm.weight"}[family]
    torch.nn.init.normal_(teacher.get_parameter(norm))
    student = layers_of_teacher([0, -1], teacher, [], tokenizer, task="causal_lm").eval()
    assert torch.equal(student.get_parameter(norm), teacher.get_parameter(norm))
    assert (student.get_output_embeddings().weight is student.get_input_embeddings().weight) == tied
    assert student.get_input_embeddings().weight is not teacher.get_input_embeddings().weight
    save(student, None, tmp_path / "model")
    loaded = load(tmp_path / "model")[0]
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied
    ids = torch.tensor([[2, 5, 7]])
    assert torch.equal(loaded(ids).logits, student(ids).logits)


def test_a_language_model_of_all_layers_is_its_teacher(make, tokenizer):
    teacher = AutoModelForCausalLM.from_config(make("llama").config).eval()
    student = layers_of_teacher([0, 1, 2, 3], teacher, [], tokenizer, task="causal_lm").eval()
    ids = torch.tensor([[2, 5, 7]])
    assert torch.equal(student(ids).logits, teacher(ids).logits)
