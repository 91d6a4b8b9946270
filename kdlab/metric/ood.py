"""Whether a model notices rows that are unlike those it learned from (out of distribution)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.batch import Batches
from kdlab.datamodule.corpus import PAIR
from kdlab.datamodule.data import Data
from kdlab.datamodule.frame import column_of, read
from kdlab.datamodule.processor.base import Processor
from kdlab.error import UserError
from kdlab.metric.answers import decides
from kdlab.metric.base import Evaluator
from kdlab.metric.outlier import auroc, energy, false_positive_rate, mahalanobis, max_probability, nearest
from kdlab.metric.perturbation.find import kind_of
from kdlab.metric.reader import Reader
from kdlab.metric.writing import gathered, spread
from kdlab.model.tap import available
from kdlab.outcome import Bernoulli
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.value import Count

PREFIX = "ood/"
SCORES = ("max_probability", "energy", "mahalanobis", "knn")
FEATURES = "pooled"  # the tap that enters the final layer


@final
class OutOfDistribution(Evaluator):
    """AUROC and FPR95 of four scores, between the measured rows and those of another table.

    Two scores need the features that enter the final layer, and training rows; of a model without a final linear layer,
    and without labelled training rows, they are left out.

    Args:
        path: a table of rows unlike the data's: csv, tsv, jsonl, json, parquet or xlsx.
        column: of its texts, or of the paths of images; two names for pairs.
        rows: most rows of the split, of the table, and of the training rows, each; None: all.
        k: the score ``knn`` is the distance to the k-th nearest training row.
    """

    needs = ("model",)
    primary = f"{PREFIX}energy_auroc"
    found: tuple[dict[str, Tensor], dict[str, Tensor]] | None
    higher_is_better = {  # noqa: RUF012
        f"{PREFIX}{score}_{kind}": kind == "auroc" for score in SCORES for kind in ("auroc", "fpr95")
    }

    def __init__(
        self,
        path: str | None = None,
        column: str | Sequence[str] = "text",
        rows: Count | None = 1000,
        k: Count = 10,
    ) -> None:
        super().__init__()
        self.path, self.limit, self.k = path, rows, k
        self.columns = [column] if isinstance(column, str) else [str(one) for one in column]
        self.reset()

    def accept(self, task: Task) -> None:
        if not decides(task) or task.unit != "row" or isinstance(task.outcome, Bernoulli):
            raise UserError(
                f"metric=ood asks how sure one class for each row is, which task={task.kind} does not predict, or not "
                "with several labels a row: leave it out"
            )

    def setup(self, task: Task, data: Data) -> None:
        super().setup(task, data)
        if self.path is None:
            raise UserError(
                "metric=ood compares with a table of other rows: name it with metric.ood.path=FILE, and its column of "
                "texts or images with metric.ood.column"
            )
        self.data, self.reader = data, Reader(task, data)
        self.rows = {row for name in ("val", "test") for row in spread(data.splits[name], self.limit)}
        self.rows |= set(data.splits["train"].tolist())  # where that is measured
        labelled = [row for row in data.splits["train"].tolist() if data.target.known[row]]
        self.learned = spread(np.array(labelled, dtype=np.int64), self.limit)
        self.others = self._read(Path(self.path), kind_of(next(iter(data.values), None), data.processor))

    def _read(self, file: Path, kind: str) -> list[str]:
        """The values of the other table.

        Raises:
            UserError: there is no such file or column, or no row.
        """
        if not kind:
            raise UserError(f"metric=ood reads tables of texts or images, and {self.data.source} has other rows")
        frame = read(file, str(file), None, None).without_empty()
        cells = [
            frame.columns[column_of(name, frame.names, frame.where, "metric.ood.column", frame.separator)]
            for name in self.columns
        ]
        rows = [[str(cell).strip() for cell in row if cell is not None] for row in zip(*cells, strict=True)]
        found = [PAIR.join(row) for row in rows if len(row) == len(cells) and all(row)]
        if not found:
            raise UserError(f"{frame.where} has no row with a {' and a '.join(self.columns)}: name another file")
        some = [found[place] for place in spread(np.arange(len(found)), self.limit)]
        return [str(file.parent / one) for one in some] if kind == "image" else some

    def learn(self, processor: Processor) -> None:
        self.reader = Reader(self.task, self.data, processor)

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        self.met.update(self.rows.intersection(batch.row.tolist()))

    def finish(self, model: nn.Module, teacher: nn.Module | None = None) -> None:
        rows = sorted(self.met)
        if self.limit is not None and len(rows) > self.limit:
            rows = spread(np.array(rows), self.limit)
        if not rows:
            return
        deep = bool(self.learned) and FEATURES in available(model)
        inside = self._scores(model, self.reader.rows(rows), deep)
        outside = self._scores(model, self.reader.values(self.others), deep)
        if deep:
            known, label = self._known(model)
            for found in (inside, outside):
                features = found.pop("features")
                found["mahalanobis"] = mahalanobis(features, known, label)
                found["knn"] = nearest(features, known, self.k)
        self.found = inside, outside

    def _scores(self, model: nn.Module, batches: Batches, deep: bool) -> dict[str, Tensor]:
        logits, features = self._logits(model, batches, deep)
        found = {"max_probability": max_probability(logits), "energy": energy(logits)}
        return found | ({"features": features} if deep else {})

    def _known(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Features ``[M, D]`` and labels ``[M]`` of the training rows."""
        batches = self.reader.rows(self.learned)
        _, features = self._logits(model, batches, deep=True)
        order = [row for group in batches.groups for row in group.tolist()]
        return features, torch.from_numpy(self.data.target.codes[order])

    def _logits(self, model: nn.Module, batches: Batches, deep: bool) -> tuple[Tensor, Tensor]:
        """Logits ``[N, C]`` and features ``[N, D]``, in the order of the batches."""
        taps = (FEATURES,) if deep else ()
        read = [output for _, output in self.reader.outputs(model, batches, taps)]
        logits = torch.cat([one.logits.float().cpu() for one in read])
        features = torch.cat([one.taps[FEATURES].float().cpu().flatten(1) for one in read]) if deep else logits
        return logits.double(), features

    def compute(self) -> dict[str, float]:
        parts = [part for part in gathered(self.found) if part is not None]
        if not parts:
            return {}
        found = {}
        for score, outside in parts[0][1].items():  # the other rows are the same in every process
            inside = torch.cat([part[0][score] for part in parts])
            found[f"{PREFIX}{score}_auroc"] = auroc(inside, outside)
            found[f"{PREFIX}{score}_fpr95"] = false_positive_rate(inside, outside)
        return found

    def reset(self) -> None:
        super().reset()
        self.met: set[int] = set()
        self.found = None
