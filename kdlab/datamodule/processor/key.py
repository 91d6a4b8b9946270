"""The keys of data sets and models that name a processor, for code that reads configs of any modality."""

from __future__ import annotations

PROCESSORS = ("tokenizer",)  # each names a folder, a package spec, a hub id or a way to make one from the training rows
