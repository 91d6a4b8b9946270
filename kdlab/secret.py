"""Secrets that were given where none belongs: they are written down nowhere."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"
NAME = re.compile(r"(^|[_-])(api_?key|secret|token|password|passwd|pwd|credentials?|private_?key|access_?key)$", re.I)
URL = re.compile(r"(?<=://)[^/\s:@]*:[^@/\s]+(?=@)")
WORD = re.compile(r"(?P<key>[+~]*[\w.@/-]+)=(?P<value>.+)", re.DOTALL)


def masked(value: Any) -> Any:
    """Nested plain values without secrets: what a key such as ``api_key`` holds, and passwords in URLs.

    Args:
        value: mappings, lists and plain values; a text such as ``logger.wandb.api_key=…`` counts as key and value.

    Example:
        >>> masked({"logger": {"api_key": "abc"}, "storage": "postgresql://me:abc@host/db"})
        {'logger': {'api_key': '***'}, 'storage': 'postgresql://***@host/db'}
        >>> masked(["seed=1", "+logger.wandb.api_key=abc"])
        ['seed=1', '+logger.wandb.api_key=***']
    """
    if isinstance(value, dict):
        return {key: HIDDEN if _names_secret(key, item) else masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    if not isinstance(value, str):
        return value
    word = WORD.fullmatch(value)
    if word and _names_secret(word["key"], word["value"]):
        return f"{word['key']}={HIDDEN}"
    return URL.sub(HIDDEN, value)


def _names_secret(key: Any, value: Any) -> bool:
    """Whether a key's value is one: a text, under a name that secrets have."""
    return isinstance(value, str) and bool(value) and NAME.search(str(key).split(".")[-1]) is not None
