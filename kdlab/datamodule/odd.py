"""Sentences about what is odd in a data set: nothing that stops a run, but its user should see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import PurePath
from statistics import median
from typing import Any

import numpy as np

from kdlab.datamodule.corpus import Corpus, counted, labelled
from kdlab.datamodule.rows import Rows

MANY = 100  # classes: more are likely ids or numbers
SHARE = 0.03  # of unknown tokens
GRAVE = 0.2  # of unknown tokens: a model hardly sees the texts
PART = 10_000_000  # tokens that are counted at a time


def odd(corpus: Corpus, codes: np.ndarray, names: Sequence[str], splits: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence for each thing that is odd.

    Args:
        codes: ``[N]`` or ``[N, C]``, -1 = unlabelled.
        names: of the labels.
        splits: row ids of each.
    """
    return [
        *_labels(corpus, names),
        *_unlabelled(corpus, codes),
        *_absent(codes, names, splits),
        *_short(corpus.values),
    ]


def _labels(corpus: Corpus, names: Sequence[str]) -> list[str]:
    if corpus.names is not None:
        return []
    found = []
    if len(names) > MANY:
        found.append(
            f"the label column has {len(names):,} different values, such as '{names[0][:40]}': is it the right one?"
        )
    if not corpus.multi_label and (joined := _joined(names)):
        rows = sum(label in joined for label in corpus.labels)
        found.append(
            f"{counted(rows, 'row has', 'rows have')} a label such as '{min(joined)[:60]}', which ';' splits into "
            "known labels: if a row may have several, set datamodule.multi_label=true"
        )
    return found


def _joined(names: Sequence[str]) -> set[str]:
    """The labels that ``;`` splits into parts all of which are in other labels too."""
    parts = {name: [part.strip() for part in name.split(";")] for name in names}
    found = Counter(part for several in parts.values() for part in dict.fromkeys(several))
    return {name for name, several in parts.items() if len(several) > 1 and all(found[part] > 1 for part in several)}


def _unlabelled(corpus: Corpus, codes: np.ndarray) -> list[str]:
    without = np.flatnonzero(~labelled(codes))
    if not 0 < len(without) < len(codes):
        return []
    return [f"{counted(len(without), 'row has', 'rows have')} no label, first: {corpus.row_name(int(without[0]))}"]


def _absent(codes: np.ndarray, names: Sequence[str], splits: Mapping[str, np.ndarray]) -> list[str]:
    def seen(rows: np.ndarray) -> np.ndarray:
        known = codes[rows][labelled(codes[rows])]
        return known.sum(0) > 0 if codes.ndim == 2 else np.bincount(known, minlength=len(names)) > 0

    if not names or splits["train"] is splits["test"]:
        return []
    train = seen(splits["train"])
    found = []
    for split in ("test", "val"):
        only = [name for name, here, there in zip(names, seen(splits[split]), train, strict=True) if here and not there]
        if only and train.any():
            shown = ", ".join(f"'{name[:40]}'" for name in only[:5]) + (" …" if len(only) > 5 else "")
            found.append(f"no training row has the label {shown}, but {split} rows have: it cannot be learned")
    return found


def _short(texts: Sequence[str]) -> list[str]:
    if len(texts) > 1 and median(map(len, islice(texts, 100_000))) <= 1:
        return ["most texts have one character: is it the right datamodule.text_column?"]
    return []


def unknown_share(rows: Rows, tokenizer: Any) -> float:
    """The share of the tokens that are unknown to a tokenizer; 0 where it has no such token."""
    unk = tokenizer.unk_token_id
    if unk is None or unk in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
        return 0.0
    special = [one for one in tokenizer.all_special_ids if one != unk]
    size = max(len(tokenizer), unk + 1)
    counts = np.zeros(size, np.int64)
    for start in range(0, len(rows.tokens), PART):
        counts += np.bincount(rows.tokens[start : start + PART], minlength=size)[:size]
    return float(counts[unk] / max(1, counts.sum() - counts[special].sum()))


def unknown(rows: Rows, tokenizer: Any, least: float = SHARE) -> list[str]:
    """A sentence where more than the share ``least`` of the tokens is unknown to a tokenizer."""
    if (share := unknown_share(rows, tokenizer)) <= least:
        return []
    return [
        f"{share:.0%} of the tokens are unknown to the tokenizer of {_name(tokenizer)}, which was made for another "
        "language or another kind of text: make one of these texts, with model@teacher.model=bert_tiny "
        "teacher.model.tokenizer=train:wordpiece:8000 (finetune: model=bert_tiny model.tokenizer=train:wordpiece:8000)"
    ]


def _name(tokenizer: Any) -> str:
    """The name of a folder, or of the folder around one that is called ``model``, as it is in runs and packages."""
    path = PurePath(str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__))
    return path.parent.name if path.name == "model" and path.parent.name else path.name
