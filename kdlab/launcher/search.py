"""``sweep=optuna``: a search over what a multirun lists, kept on disk, so that the same command goes on with it.

Trials are jobs of any launcher. The value of a trial is in its run's metrics.json, whatever number that is and
however many; a trial of one objective can be pruned while it trains (see :mod:`kdlab.callback.prune`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from kdlab.callback.prune import STORAGE, TRIAL, pruner
from kdlab.config import monitor
from kdlab.config.direction import higher_is_better
from kdlab.direction import PRIMARY
from kdlab.error import JobError, UserError
from kdlab.file import write_json
from kdlab.launcher.point import composed
from kdlab.metric.majority import NAME as MAJORITY
from kdlab.report.read import record

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "random", "nsgaii")
PRUNERS = ("none", "asha", "hyperband")
DIRECTIONS = ("maximize", "minimize")


def sweep(
    settings: dict[str, Any], context: HydraContext, config: DictConfig, launcher: Launcher, words: list[str]
) -> None:
    """Do ``n_trials`` trials, those of earlier commands counted.

    Raises:
        UserError: settings or ranges that cannot be.
        JobError: a trial failed; the others are kept.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("sweep=optuna needs optuna: pip install 'kdlab[optuna]'") from None
    _check(settings)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    overrides = OverridesParser.create(config_loader=context.config_loader).parse_overrides(words)
    space = {one.get_key_element(): distribution(one) for one in overrides if one.is_sweep_override()}
    if not space:
        raise UserError("sweep=optuna: nothing to search; give a key several values or an interval(low,high)")
    fixed = [str(one.input_line) for one in overrides if not one.is_sweep_override()]
    first = [*fixed, *[f"{key}={_first(values)}" for key, values in space.items()]]
    settings = settings | {"objectives": objectives(settings, composed(context, config, first, 0).job.cfg)}
    study = _study(settings, config, {"space": {key: repr(value) for key, value in space.items()}, "fixed": fixed})
    _recover(study)
    failed: list[str] = []
    left = max(0, settings["n_trials"] - _ended(study))
    for size in [settings["n_jobs"]] * (left // settings["n_jobs"]) + [left % settings["n_jobs"]] * (left > 0):
        if size == 0:
            break
        trials = [study.ask(space) for _ in range(size)]
        batch = [[*fixed, *[f"{key}={value}" for key, value in trial.params.items()]] for trial in trials]
        folders = []
        for trial, job in zip(trials, batch, strict=True):
            folders.append(composed(context, config, job, trial.number).folder)
            _enroll(folders[-1], settings, study, trial)
        results = launcher.launch(batch, initial_job_idx=trials[0].number)
        failed += [_record_trial(study, *each, settings) for each in zip(trials, folders, results, strict=True)]
    print(best(study, list(settings["objectives"])), flush=True)
    if reasons := [reason for reason in failed if reason]:
        raise JobError(f"{len(reasons)} of {len(study.trials)} trials failed, the first because of {reasons[0]}")


def distribution(override: Override) -> optuna.distributions.BaseDistribution:
    """A key's values in Hydra's grammar: ``a,b``, ``range(1,5)``, ``interval(0,1)``, ``tag(log,interval(1e-5,1))``."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value, name = override.value(), override.get_key_element()
    if isinstance(value, IntervalSweep):
        low, high, log = float(value.start or 0), float(value.end or 0), "log" in value.tags
        if not low < high or (log and low <= 0):
            raise UserError(f"sweep=optuna: {name}=interval({low},{high}) is empty, or has no logarithm")
        if isinstance(value.start, int) and isinstance(value.end, int):  # int(interval(1,8)); else both are floats
            return IntDistribution(value.start, value.end, log=log)
        return FloatDistribution(low, high, log=log)
    if isinstance(value, RangeSweep) and isinstance(value.start, int) and isinstance(value.step, int):
        return CategoricalDistribution(list(value.range()))
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def best(study: optuna.Study, names: list[str]) -> str:
    """The best trial, or those of the Pareto front, a line each."""
    lines = []
    for trial in study.best_trials:
        reached = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, trial.values, strict=True))
        reported = {name: trial.user_attrs[name] for name in _reported(names) if name in trial.user_attrs}
        reached += "".join(f", {name} {value:.4g}" for name, value in reported.items())
        lines.append(f"  trial {trial.number}: {reached}  " + " ".join(f"{k}={v}" for k, v in trial.params.items()))
    states = [trial.state.name.lower() for trial in study.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    title = "best" if len(names) == 1 else "none is better in all of " + ", ".join(names)
    return "\n".join([f"{len(states)} trials: {counts}; {title}:", *(lines or ["  none"])])


def _reported(objectives: Iterable[str]) -> list[str]:
    """The test metrics beside the validation metrics that trials are chosen by: they are shown, and decide nothing."""
    return [name.replace("best/val/", "test/", 1) for name in objectives if name.startswith("best/val/")]


def _first(values: optuna.distributions.BaseDistribution) -> Any:
    return getattr(values, "choices", (getattr(values, "low", None),))[0]


def objectives(settings: Mapping[str, Any], cfg: DictConfig) -> dict[str, str]:
    """The objectives of a search: metric -> ``maximize`` or ``minimize``, which follows from what the metric declares.

    Args:
        cfg: of a trial; all trials measure the same.

    Raises:
        UserError: a direction that contradicts the metric or is not declared, a metric that no trial will have, or a
            pruner without a validation metric to look at.
    """
    keeper = OmegaConf.select(cfg, "callback.checkpoint.monitor")
    keeper = monitor.primary(cfg) if keeper == PRIMARY else keeper
    words = settings["objectives"]
    if words is None:
        if keeper is None:
            raise UserError("callback.checkpoint.monitor is null: set hydra.sweeper.objectives, such as [test/loss]")
        words = [f"best/{keeper}"]
    found, known, names = {}, monitor.directions(cfg), monitor.validated(cfg)
    for word in words:
        asked, _, name = str(word).rpartition(" ")
        _exists(name, keeper, names)
        more = higher_is_better(name, known)
        if more is None and not asked:
            raise UserError(
                f"hydra.sweeper.objectives: {name} does not declare whether more is better; write 'maximize {name}' or "
                f"'minimize {name}'"
            )
        found[name] = asked or DIRECTIONS[not more]
        if more is not None and found[name] != DIRECTIONS[not more]:
            better = "more" if more else "less"
            raise UserError(f"hydra.sweeper.objectives: '{asked} {name}', but {better} of it is better; write {name}")
    objective = next(iter(found))
    if settings["pruner"] != "none" and not objective.startswith("best/"):
        raise UserError(
            f"hydra.sweeper.pruner={settings['pruner']} looks at validations, but the objective is {objective}; "
            f"set pruner=none or an objective such as best/{keeper or 'val/loss'}"
        )
    return found


def _exists(name: str, keeper: str | None, validated: Sequence[str] | None) -> None:
    """Refuse what will not be in metrics.json."""
    split, _, metric = name.partition("/")
    known = None
    if split in ("val", "best") and metric not in (MAJORITY, "step"):
        known = [f"best/{keeper}"] if keeper else []
    elif split == "test" and validated is not None and metric != MAJORITY:
        known = [one.replace("val/", "test/", 1) for one in validated]
    if known is not None and name not in known:
        there = f"choose one of {', '.join(known)}" if known else "set callback.checkpoint.monitor"
        raise UserError(f"hydra.sweeper.objectives: no trial will have {name} in its metrics.json; {there}")


def _check(settings: Mapping[str, Any]) -> None:
    for name, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if settings[name] not in known:
            raise UserError(f"hydra.sweeper.{name}={settings[name]} is unknown: choose one of {', '.join(known)}")
    words = settings["objectives"]
    objectives = [str(word).split() for word in words] if isinstance(words, list) else []
    if words is not None and (not objectives or any(_odd(one) for one in objectives)):
        raise UserError(
            f"hydra.sweeper.objectives={words} must be such as [best/val/loss], or two or more: [test/loss, "
            "perf/latency_ms]; [maximize NAME] or [minimize NAME] where a metric does not declare its direction"
        )
    if settings["pruner"] != "none" and len(objectives) > 1:
        raise UserError("hydra.sweeper.pruner needs one objective, since two trials have no order by several")
    if settings["n_jobs"] < 1 or settings["n_trials"] < 1:
        raise UserError("hydra.sweeper.n_jobs and n_trials must be 1 or more")


def _odd(words: Sequence[str]) -> bool:
    return len(words) != 1 and (len(words) != 2 or words[0] not in DIRECTIONS)


def _study(settings: dict[str, Any], config: DictConfig, what: dict[str, Any]) -> optuna.Study:
    """The study of this search; another space, other fixed words or objectives are another study."""
    from optuna import create_study, samplers

    asked = what | {"objectives": settings["objectives"], "pruner": settings["pruner"]}
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    made = {
        "tpe": lambda: samplers.TPESampler(seed=settings["seed"], constant_liar=settings["n_jobs"] > 1),
        "random": lambda: samplers.RandomSampler(seed=settings["seed"]),
        "nsgaii": lambda: samplers.NSGAIISampler(seed=settings["seed"]),
    }
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    settings["study"] = f"{settings['name']}-{key}"
    return create_study(
        storage=settings["storage"], study_name=settings["study"], load_if_exists=True,
        sampler=made[settings["sampler"]](), pruner=pruner(settings["pruner"]),
        directions=list(settings["objectives"].values()),
    )  # fmt: skip


def _recover(study: optuna.Study) -> None:
    """Trials of a command that died are tried again: their runs go on from their checkpoints."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _ended(study: optuna.Study) -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]))


def _enroll(folder: Path, settings: dict[str, Any], study: optuna.Study, trial: optuna.Trial) -> None:
    """Write the trial's number into the run's folder, where the run can be pruned."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRIAL).unlink(missing_ok=True)
    if settings["pruner"] == "none":
        return
    os.environ[STORAGE] = settings["storage"]  # not in the file, which may come from somebody else
    where = {"study": settings["study"], "trial": trial._trial_id}
    monitor = next(iter(settings["objectives"])).removeprefix("best/")
    write_json(folder / TRIAL, where | {"pruner": settings["pruner"], "monitor": monitor})


def _record_trial(study: optuna.Study, trial: Any, folder: Path, result: JobReturn, settings: dict[str, Any]) -> str:
    """Report the end of a trial to the study.

    Returns:
        Why it failed, or "".
    """
    from optuna.trial import TrialState

    ended = record(folder)
    values = {name: ended.metrics[name] for name in settings["objectives"] if name in ended.metrics}
    if ended.state == "finished" and len(values) == len(settings["objectives"]):
        for name in _reported(settings["objectives"]):
            if name in ended.metrics:
                trial.set_user_attr(name, ended.metrics[name])
        study.tell(trial, list(values.values()))
        return ""
    if ended.reason.startswith("Pruned:"):
        study.tell(trial, state=TrialState.PRUNED)
        return ""
    study.tell(trial, state=TrialState.FAIL)
    missing = ", ".join(name for name in settings["objectives"] if name not in values)
    return ended.reason or f"no {missing} in {folder}/metrics.json, which has {', '.join(ended.metrics)}"
