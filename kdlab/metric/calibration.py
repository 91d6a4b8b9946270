"""Whether a model's probabilities can be trusted: calibration, selective prediction and prediction sets."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Processor
from kdlab.error import UserError
from kdlab.metric.answers import Answers, decides, together
from kdlab.metric.base import Evaluator
from kdlab.metric.classification import calibration as binned
from kdlab.metric.classification import calibration_error
from kdlab.metric.conformal import SCORES, covered, threshold
from kdlab.metric.reader import Reader
from kdlab.metric.reliability import adaptive_error, brier, classwise_error, fit_temperature, nll, risk_at, risks
from kdlab.outcome import Bernoulli
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.value import Count, Part, Seed, Share

PREFIX = "calibration/"
TEMPERATURE = f"{PREFIX}temperature"
ERRORS = ("ece", "ece_adaptive", "ece_classwise", "brier", "nll")


def errors(logs: Tensor, target: Tensor, bins: int) -> dict[str, float]:
    """``ece``, ``ece_adaptive``, ``ece_classwise``, ``brier`` and ``nll`` of log probabilities.

    Args:
        logs: ``[N, S]``. target: ``[N]``.

    Example:
        >>> round(errors(torch.tensor([[0.75, 0.25]]).log(), torch.tensor([0]), 15)["ece"], 6)
        0.25
    """
    probabilities = logs.exp()
    sure, chosen = probabilities.max(1)
    right = chosen == target
    found = {
        "ece": calibration_error(binned(sure, right, bins)),
        "ece_adaptive": adaptive_error(sure, right, bins),
        "ece_classwise": classwise_error(probabilities, target, bins),
        "brier": brier(logs, target).mean(),
        "nll": nll(logs, target).mean(),
    }
    return {name: float(value) for name, value in found.items()}


@final
class Calibration(Evaluator):
    """Calibration as it is, and with a temperature and prediction sets that the labelled validation rows give.

    The temperature and the sets are left out where validation rows are measured, and where there are none. Where a row
    may have several labels, each yes or no is an answer of its own. Then there are no sets, as of tokens, since answers
    within a row are not exchangeable.

    Args:
        bins: of the calibration errors.
        coverages: shares of the rows that are answered, the surest first, whose risk is given.
        alpha: the share of prediction sets that may miss the right class.
        seed: of what ``aps`` draws for each row.
    """

    needs = ("labels",)
    primary = f"{PREFIX}nll"
    parts: list[Answers]
    validation: Answers | None

    def __init__(
        self,
        bins: Count = 15,
        coverages: Collection[Part] = (0.9, 0.8, 0.5),
        alpha: Share = 0.1,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.bins, self.alpha, self.seed = bins, alpha, seed
        self.coverages = {f"risk_at_{100 * one:g}": one for one in coverages}
        names: dict[str, bool | None] = dict.fromkeys([*ERRORS, "aurc", *self.coverages], False)
        names |= {"temperature": None} | dict.fromkeys([f"{name}_scaled" for name in ERRORS], False)
        for kind in SCORES:
            names |= {f"{kind}_coverage": None, f"{kind}_size": False}
        self.higher_is_better = {f"{PREFIX}{name}": more for name, more in names.items()}
        self.reset()

    def accept(self, task: Task) -> None:
        if not decides(task):
            raise UserError(
                f"metric=calibration compares probabilities with labels, which task={task.kind} has none of: leave it "
                "out"
            )

    def setup(self, task: Task, data: Data) -> None:
        super().setup(task, data)
        self.reader = Reader(task, data)
        self.held: set[int] = set(data.splits["val"].tolist())
        self.draw = torch.from_numpy(np.random.default_rng(self.seed).random(len(data.encoded_rows().rows)))

    def learn(self, processor: Processor) -> None:
        self.reader = Reader(self.task, self.reader.data, processor)

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        self.parts.append(Answers.of(student, batch))

    def finish(self, model: nn.Module, teacher: nn.Module | None = None) -> None:
        measured = {row for part in self.parts for row in part.row.tolist()}
        if not self.held or measured & self.held:
            return
        rows = sorted(self.held)
        read = self.reader.outputs(model, self.reader.rows(rows))
        self.validation = Answers.joined([Answers.of(output, batch) for batch, output in read]).known

    def compute(self) -> dict[str, float]:
        whole = together(self.parts)
        if whole is None or not len(answers := whole.known):
            return {}
        logs, target = answers.single(self.task.outcome)
        sure, chosen = logs.exp().max(1)
        found = errors(logs, target, self.bins)
        risk = risks(sure, chosen == target)
        found["aurc"] = float(risk.mean())
        found |= {name: float(risk_at(risk, coverage)) for name, coverage in self.coverages.items()}
        if self.validation is not None and len(self.validation):
            found |= self._scaled(answers, self.validation)
            if self.task.unit == "row" and not isinstance(self.task.outcome, Bernoulli):
                found |= self._sets(answers, self.validation)
        return {f"{PREFIX}{name}": value for name, value in found.items()}

    def _scaled(self, answers: Answers, validation: Answers) -> dict[str, float]:
        outcome = self.task.outcome
        temperature = fit_temperature(*validation.single(outcome))
        found = errors(*answers.single(outcome, temperature), self.bins)
        return {"temperature": temperature} | {f"{name}_scaled": value for name, value in found.items()}

    def _sets(self, answers: Answers, validation: Answers) -> dict[str, float]:
        found: dict[str, float] = {}
        for kind, score in SCORES.items():
            scores = []
            for some in (validation, answers):
                logs, target = some.single(self.task.outcome)
                scores.append((score(logs.exp(), self.draw[some.row]), target))
            (known, right), (new, target) = scores
            limit = threshold(known.gather(1, right[:, None])[:, 0], self.alpha)
            hit, size = covered(new, target, limit)
            found |= {f"{kind}_coverage": float(hit.double().mean()), f"{kind}_size": float(size.double().mean())}
        return found

    def reset(self) -> None:
        super().reset()
        self.parts = []
        self.validation = None
