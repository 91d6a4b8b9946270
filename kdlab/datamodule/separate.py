"""Splits without a text in two of them."""

from __future__ import annotations

import numpy as np

from kdlab.datamodule.corpus import Corpus, counted
from kdlab.error import UserError


def separate(splits: dict[str, np.ndarray], order: np.ndarray, corpus: Corpus, overlap: str) -> list[str]:
    """Remove from each split the texts of the splits that are evaluated after it.

    Args:
        splits: row ids of all rows by split; changed in place.
        order: ``[N]``, a number for each row that is the same for the same text.
        overlap: ``refuse``, ``drop`` or ``allow`` texts that two splits of the data itself share.

    Returns:
        A sentence for each pair of splits that shared texts, about the rows that were left out.

    Raises:
        UserError: ``overlap`` is ``refuse`` and two splits of the data share texts, or no row is left.
    """
    given, notices = set() if corpus.split is None else set(corpus.split), []
    thing = f"{'an' if corpus.thing[0] in 'aeiou' else 'a'} {corpus.thing}"
    for first, second in (("val", "test"), ("train", "val"), ("train", "test")):
        rows = splits[first]
        both = np.isin(order[rows], order[splits[second]])
        if not (count := int(np.count_nonzero(both))) or overlap == "allow":
            continue
        shown = f"first: {corpus.row_name(int(rows[both][0]))}"
        if overlap == "refuse" and {first, second} <= given:
            raise UserError(
                f"{corpus.where}: {counted(count, f'{first} row has', f'{first} rows have')} {thing} of the "
                f"{second} split too ({shown}), which makes results look better than they are: set "
                "datamodule.overlap=drop to leave them out, or allow"
            )
        splits[first] = rows[~both]
        rows_are = counted(count, f"{first} row is", f"{first} rows are")
        notices.append(f"{rows_are} left out: the {second} split has the same {corpus.thing}s ({shown})")
        if not len(splits[first]):
            raise UserError(f"{corpus.where}: no {first} row is left that has not {thing} of the {second} split too")
    return notices
