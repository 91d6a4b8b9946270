"""An encoder-decoder of any size with random weights."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import MarianConfig, MarianMTModel, PreTrainedModel, PreTrainedTokenizerBase

from kdlab.error import UserError
from kdlab.model.begin import begin_of
from kdlab.value import Depth, Share, Width


def seq2seq(
    hidden_size: Width,
    encoder_layers: Depth,
    layers: Depth,
    heads: Width,
    intermediate_size: Width,
    dropout: Share,
    max_length: Width,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    target_tokenizer: PreTrainedTokenizerBase | None = None,
    task: str = "seq2seq",
) -> PreTrainedModel:
    """A Marian transformer: sinusoidal positions, and a head that is tied to the decoder's word embeddings.

    Args:
        hidden_size: width D; must be a multiple of ``heads``, and even.
        encoder_layers, layers: number of the encoder's and of the decoder's layers.
        intermediate_size: width of the feed-forward layers.
        dropout: the probability in hidden states and attention.
        max_length: the largest number of tokens of a source or a target.
        tokenizer: of the sources.
        target_tokenizer: of the targets, where it is another one: then encoder and decoder have word embeddings of
            their own. None: both sides share tokenizer and word embeddings.
        task: the kind of task, ``seq2seq``.

    Raises:
        UserError: another kind of task, or a width that does not fit.

    Source: Vaswani et al. 2017, arXiv:1706.03762; Junczys-Dowmunt et al. 2018, arXiv:1804.00344.
    """
    if task != "seq2seq":
        raise UserError(f"model=seq2seq_tiny writes a target for a source, but the task is {task}: set task=seq2seq")
    if hidden_size % heads or hidden_size % 2:
        raise UserError(f"hidden_size={hidden_size} must be even and a multiple of heads={heads}: change one of them")
    written = tokenizer if target_tokenizer is None else target_tokenizer
    config = MarianConfig(
        vocab_size=len(tokenizer),
        decoder_vocab_size=len(written),
        share_encoder_decoder_embeddings=target_tokenizer is None,
        d_model=hidden_size,
        encoder_layers=encoder_layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=intermediate_size,
        decoder_ffn_dim=intermediate_size,
        dropout=dropout,
        attention_dropout=dropout,
        max_position_embeddings=max_length + 1,  # the decoder reads a start token before the target
        scale_embedding=True,
        pad_token_id=written.pad_token_id,
        eos_token_id=written.eos_token_id if written.eos_token_id is not None else written.sep_token_id,
        bos_token_id=written.bos_token_id,
        decoder_start_token_id=begin_of(written),
        forced_eos_token_id=None,
        use_cache=False,
    )
    return MarianMTModel(config).train()
