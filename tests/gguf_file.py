"""A tiny Llama in a GGUF file, with a byte-level tokenizer, as llama.cpp writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WIDTH, HEADS, INNER = 16, 2, 32


def write_gguf(path: Path, layers: int = 4, seed: int = 0) -> Path:
    """Write random weights, the head tied to the word embeddings, and a tokenizer of bytes and one merge."""
    from gguf import GGUFWriter, TokenType

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL, *letters, "th"]
    draw = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return draw.normal(0, 0.3, shape).astype(np.float32)

    file = GGUFWriter(path, "llama")
    file.add_name("tiny")
    file.add_context_length(128)
    file.add_embedding_length(WIDTH)
    file.add_block_count(layers)
    file.add_feed_forward_length(INNER)
    file.add_head_count(HEADS)
    file.add_head_count_kv(HEADS)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_freq_base(10000.0)
    file.add_rope_dimension_count(WIDTH // HEADS)
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre("smollm")
    file.add_token_list(tokens)
    file.add_token_types([TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(tokens) - len(SPECIAL)))
    file.add_token_merges(["t h"])
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_pad_token_id(2)
    file.add_unk_token_id(0)
    file.add_tensor("token_embd.weight", weight(len(tokens), WIDTH))
    file.add_tensor("output_norm.weight", 1 + weight(WIDTH))
    for layer in range(layers):
        for name, shape in {
            "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH), "attn_output": (WIDTH, WIDTH),
            "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER),
        }.items():  # fmt: skip
            file.add_tensor(f"blk.{layer}.{name}.weight", weight(*shape))
        for name in ("attn_norm", "ffn_norm"):
            file.add_tensor(f"blk.{layer}.{name}.weight", 1 + weight(WIDTH))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return path
