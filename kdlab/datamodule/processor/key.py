"""The keys of data sets and models that name a processor, for code that reads configs of any modality."""

from __future__ import annotations

PROCESSORS = (
    "tokenizer",
    "image_processor",
)  # each names a folder, a package spec, a hub id or a way to make one from the training rows
TARGETS = ("target_tokenizer",)  # of those that are in a folder of their own beside a model: of what it writes
