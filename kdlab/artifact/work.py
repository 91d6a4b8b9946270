"""The rows of a file through a trained model: chunk after chunk, with what the model adds to each row."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from kdlab.artifact.answerer import Answerer
from kdlab.artifact.predictor import Predictor
from kdlab.artifact.tagger import Tagger
from kdlab.datamodule.chunk import Chunk
from kdlab.datamodule.part import Part
from kdlab.datamodule.prompts import Values
from kdlab.datamodule.sink import Added, Sink
from kdlab.datamodule.stream import ROWS, Stream
from kdlab.error import UserError
from kdlab.generation import Sampling
from kdlab.meter import Meter
from kdlab.metric import writing
from kdlab.terminal import announce, clock, counted

DIGITS = 6  # of a probability or a number


class Work(ABC):
    """Reads chunk after chunk, adds columns, counts the results, and shows the progress.

    Args:
        rows: the file.
        values: what the model reads of each row.

    Attributes:
        separator: between the parts of a list in a csv; None: as in the data.
    """

    verb: str
    separator: str | None = None

    def __init__(self, rows: Stream, values: Values) -> None:
        self.rows, self.values = rows, values
        self.done = self.empty = 0
        self.began = time.perf_counter()

    @property
    @abstractmethod
    def size(self) -> int:
        """Rows of a chunk."""

    @abstractmethod
    def columns(self) -> dict[str, type]:
        """The new columns and the type of each."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides the values of the new columns besides the model and the rows."""

    @abstractmethod
    def added(self, values: Sequence[Any], first: int, meter: Meter) -> Added:
        """The new columns of a chunk.

        Args:
            first: the number of rows before it.
        """

    @abstractmethod
    def summary(self) -> str:
        """What came out, for the last line; "": nothing to add."""

    def notices(self) -> list[str]:
        """Sentences after the last line."""
        return []

    def into(self, out: Sink, part: Part | None = None) -> None:
        skip = part.rows if part is not None else 0
        with Meter(self.verb, self.rows.total, skip) as meter:
            for chunk in self.rows.chunks(self.size, skip):
                out.write(chunk, self._of(chunk, skip + self.done, meter))
                self.done += len(chunk)
                if part is not None:
                    part.note(skip + self.done)
        out.close()

    def _of(self, chunk: Chunk, first: int, meter: Meter) -> Added:
        return self.added(self.values.of(self.rows, chunk), first, meter)

    def conclude(self, file: Path | None) -> None:
        """Print a summary."""
        seconds = time.perf_counter() - self.began
        took = clock(seconds) if round(seconds) else "<1 s"
        where = f" -> {file}" if file is not None else ""
        announce(f"predicted {counted(self.done, 'row')} in {took}: {self.summary()}{where}")
        for notice in self.notices():
            announce(notice)


def rounded(value: float) -> float:
    """A probability or a number with as many digits as are written.

    Example:
        >>> rounded(0.123456789)
        0.123457
    """
    return float(f"{value:.{DIGITS}g}")


@final
class Labelling(Work):
    """Labels and probabilities, or numbers."""

    verb = "predicting"

    def __init__(self, predictor: Predictor, rows: Stream, values: Values) -> None:
        super().__init__(rows, values)
        self.predictor = predictor
        self.counts: Counter[str] = Counter()
        self.total = 0.0  # of predicted numbers

    @property
    def size(self) -> int:
        return ROWS

    def columns(self) -> dict[str, type]:
        predictor = self.predictor
        if predictor.numbers:
            return {"predicted": float}
        decided = {f"predicted_{label}": bool for label in predictor.labels} if predictor.several else {}
        return (
            {"predicted": list if predictor.several else str}
            | decided
            | {f"probability_{label}": float for label in predictor.labels}
        )

    def settings(self) -> dict[str, Any]:
        scale = self.predictor.scale
        return {"max_length": self.predictor.max_length} | ({} if scale == 1 else {"scale": scale})

    def added(self, values: Sequence[Any], first: int, meter: Meter) -> Added:
        predictor = self.predictor
        logits, real = predictor.logits(values, meter.more)
        meter.more(int((~real).sum()))
        self.empty += int((~real).sum())

        def there(values: Sequence[Any]) -> list[Any]:
            return [value if yes else None for value, yes in zip(values, real.tolist(), strict=True)]

        if predictor.numbers:
            found = there([rounded(value) for value in predictor.read_numbers(logits)])
            self.total += sum(value for value in found if value is not None)
            return {"predicted": found}
        decided = predictor.decide(logits)
        probabilities = predictor.task.outcome.probabilities(logits)
        for label, yes in zip(decided, real.tolist(), strict=True):
            self.counts.update(() if not yes else label if isinstance(label, list) else [label])
        added = {"predicted": there(decided)}
        if predictor.several:
            added |= {
                f"predicted_{label}": there((logits[:, index] > 0).tolist())
                for index, label in enumerate(predictor.labels)
            }
        return added | {
            f"probability_{label}": there([rounded(value) for value in probabilities[:, index].tolist()])
            for index, label in enumerate(predictor.labels)
        }

    def summary(self) -> str:
        if self.predictor.numbers:
            return f"{self.total / max(1, self.done - self.empty):.{DIGITS}g} in the mean"
        counts = ", ".join(f"{count:,} {label}" for label, count in self.counts.most_common(8))
        return counts + (f" and {len(self.counts) - 8} labels more" if len(self.counts) > 8 else "")

    def notices(self) -> list[str]:
        return [f"rows without a text, of which nothing is predicted: {self.empty:,}"] if self.empty else []


@final
class Tagging(Work):
    """A tag for each word of a text, the words parted by spaces."""

    verb = "tagging"
    separator = " "

    def __init__(self, tagger: Tagger, rows: Stream, values: Values) -> None:
        super().__init__(rows, values)
        self.tagger = tagger
        self.words = self.cut = 0

    @property
    def size(self) -> int:
        return ROWS

    def columns(self) -> dict[str, type]:
        return {"predicted": list}

    def settings(self) -> dict[str, Any]:
        return {"max_length": self.tagger.max_length}

    def added(self, values: Sequence[Any], first: int, meter: Meter) -> Added:
        found = self.tagger.tags(values, meter.more)
        none = sum(tags is None for tags in found)
        meter.more(none)
        self.empty += none
        self.words += sum(len(tags) for tags in found if tags)
        self.cut += sum(tags.count("") for tags in found if tags)
        return {"predicted": found}

    def summary(self) -> str:
        return f"{self.words:,} words"

    def notices(self) -> list[str]:
        found = [f"rows without a text, of which nothing is predicted: {self.empty:,}"] if self.empty else []
        if self.cut:
            found.append(f"words after max_length={self.tagger.max_length} tokens, which have no tag: {self.cut:,}")
        return found


@final
class Answering(Work):
    """Generated texts.

    Args:
        seed: of what is drawn. With the number of a chunk's first row it decides what the chunk draws.
    """

    verb = "generating"

    def __init__(self, answerer: Answerer, rows: Stream, values: Values, sampling: Sampling, seed: int = 0) -> None:
        super().__init__(rows, values)
        self.answerer, self.sampling, self.seed = answerer, sampling, seed
        self.longest = answerer.longest(sampling)
        self.ended = self.cut = 0

    @property
    def size(self) -> int:
        return writing.ROWS

    def columns(self) -> dict[str, type]:
        return {"generated": str, "ended": bool}

    def settings(self) -> dict[str, Any]:
        drawn = {} if self.sampling.greedy else {"seed": self.seed}
        return {"max_length": self.answerer.max_length, "sampling": self.sampling.arguments()} | drawn

    def added(self, values: Sequence[Any], first: int, meter: Meter) -> Added:
        found = self.answerer.answers(values, self.sampling, (self.seed + first) % 2**32)
        self.empty += sum(one.text is None for one in found)
        self.cut += sum(one.cut > 0 for one in found)
        self.ended += sum(one.ended is True for one in found)
        meter.more(len(found))
        return {"generated": [one.text for one in found], "ended": [one.ended for one in found]}

    def summary(self) -> str:
        return f"{self.ended:,} ended before max_new_tokens={self.sampling.max_new_tokens}"

    def notices(self) -> list[str]:
        found = [f"rows without a prompt, which nothing answers: {self.empty:,}"] if self.empty else []
        if self.cut:
            found.append(f"prompts of more than {self.longest:,} tokens, of which a part was not read: {self.cut:,}")
        return found


def work_of(model: Predictor | Tagger | Answerer, rows: Stream, values: Values, asked: Mapping[str, Any]) -> Work:
    """What a model does with the rows of a file.

    Args:
        asked: the settings of the sampling, by name; None where one is not given.

    Raises:
        UserError: a setting of the sampling for a model that writes nothing, or one that does not fit the model.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    if isinstance(model, Answerer):
        seed = given.pop("seed", 0)
        return Answering(model, rows, values, Sampling(**given), seed)
    if given:
        raise UserError(
            f"{next(iter(given))} is about texts that a model writes, but this run gives labels: leave it out"
        )
    return Tagging(model, rows, values) if isinstance(model, Tagger) else Labelling(model, rows, values)
