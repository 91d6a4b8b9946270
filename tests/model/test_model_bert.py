import pytest

from kdlab.error import UserError
from kdlab.model.bert import bert

SHAPE = {"hidden_size": 8, "layers": 2, "heads": 2, "intermediate_size": 16, "dropout": 0.2, "max_length": 16}


def test_the_vocabulary_is_the_tokenizers(tokenizer, labels, batch):
    model = bert(**SHAPE, tokenizer=tokenizer, labels=labels)
    assert model.bert.embeddings.word_embeddings.num_embeddings == len(tokenizer)
    assert model(**batch).logits.shape == (3, 3)
    assert model.config.label2id == {"bad": 0, "fair": 1, "good": 2}


def test_heads_must_divide_the_width(tokenizer, labels):
    with pytest.raises(UserError, match="no multiple of heads=3"):
        bert(**SHAPE | {"heads": 3}, tokenizer=tokenizer, labels=labels)


def test_a_label_twice_is_refused(tokenizer):
    with pytest.raises(UserError, match="no name twice"):
        bert(**SHAPE, tokenizer=tokenizer, labels=["a", "a"])
