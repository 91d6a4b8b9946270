"""The token with which a decoder begins that has not learned another one."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from kdlab.error import UserError


def begin_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the tokenizer's begin of a text, or, where it has none, of its padding, as T5 begins.

    Raises:
        UserError: it has neither.
    """
    for found in (tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
        if found is not None:
            return int(found)
    raise UserError(
        f"the tokenizer {tokenizer.name_or_path} has no token with which a decoder begins (cls, bos or pad): "
        "choose another tokenizer, such as train:wordpiece:8000"
    )
