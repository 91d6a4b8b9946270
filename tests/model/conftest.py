"""Tiny random models of several families, an MLP, and a tokenizer for them."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from kdlab.model.mlp import mlp

WORDS = ["[PAD]", "[UNK]", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"]
LABELS = ["bad", "fair", "good"]
SAME = {"vocab_size": len(WORDS), "num_labels": 3}
BERT_LIKE = SAME | {
    "hidden_size": 8,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
}
FAMILY = {
    "bert": lambda: BertConfig(**BERT_LIKE),
    "roberta": lambda: RobertaConfig(**BERT_LIKE | {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}),
    "distilbert": lambda: DistilBertConfig(
        **SAME, dim=8, n_layers=4, n_heads=2, hidden_dim=16, max_position_embeddings=32, pad_token_id=0
    ),
    "gpt2": lambda: GPT2Config(
        **SAME, n_embd=8, n_layer=4, n_head=2, n_positions=32, pad_token_id=0, bos_token_id=2, eos_token_id=3
    ),
    "electra": lambda: ElectraConfig(**BERT_LIKE | {"embedding_size": 6, "pad_token_id": 0}),
    "albert": lambda: AlbertConfig(**BERT_LIKE | {"embedding_size": 6, "num_hidden_groups": 2, "pad_token_id": 0}),
    "llama": lambda: LlamaConfig(**BERT_LIKE | {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}),
}


@pytest.fixture(scope="session")
def tokenizer():
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture
def labels():
    return list(LABELS)


@pytest.fixture
def make():
    """Build a tiny random model of a family, in eval mode; the same weights each time."""

    def build(family):
        torch.manual_seed(0)
        config = FAMILY[family]()
        config.id2label, config.label2id = dict(enumerate(LABELS)), {name: i for i, name in enumerate(LABELS)}
        return AutoModelForSequenceClassification.from_config(config).eval()

    return build


@pytest.fixture
def make_mlp(tokenizer, labels):
    def build(depth=3, input="embedding", **others):
        torch.manual_seed(0)
        size = {"depth": depth, "width": 5, "input": input, "embedding_size": 4, "dropout": 0.1}
        return mlp(**size | others, tokenizer=tokenizer, labels=labels).eval()

    return build


@pytest.fixture(scope="session")
def batch():
    ids = torch.tensor([[2, 3, 4, 5, 6], [7, 8, 9, 0, 0], [10, 0, 0, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}
