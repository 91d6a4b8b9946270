"""The command line that the small benchmarks share."""

from __future__ import annotations

import argparse


def options(
    doc: str | None, rows: int | None = 2000, repeats: int = 3, words: list[str] | None = None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=rows, help="training rows")
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--student", choices=["bert_tiny", "two_layers"], default="bert_tiny")
    return parser.parse_args(words)


def on(device: str) -> list[str]:
    """kdlab's overrides for a device."""
    return ["trainer=gpu"] if device.startswith("cuda") else []
