"""Run directories as the commands write them, with made-up numbers."""

import csv
import json
import random
from pathlib import Path

import yaml


def write_run(
    outputs: Path,
    command: str,
    name: str,
    config: dict | None = None,
    metrics: dict | None = None,
    history: list[dict] | None = None,
    state: str = "finished",
    error: str = "OutOfMemory: 80 GiB",
    group: str = "",
    job: int = 0,
    overrides: list[str] = (),
) -> Path:
    folder = outputs / command / name
    folder.mkdir(parents=True)
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    (folder / "environment.json").write_text(json.dumps({"started": "2025-03-01T10:00:00+00:00", "pid": 1}))
    (folder / ".lock").touch()
    if group:
        (folder / "sweep.json").write_text(json.dumps({"group": group, "job": job}))
    if history:
        columns = list(dict.fromkeys(key for row in history for key in row))
        with (folder / "history.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(history)
    if state == "finished":
        (folder / "metrics.json").write_text(json.dumps(metrics or {}))
        (folder / "done.json").write_text(json.dumps({"state": "finished", "value": 0.8, "seconds": 61.5}))
    if state == "failed":
        failed = {
            "type": error.split(":")[0],
            "error": error.split(": ", 1)[-1],
            "failed_at": "2025-03-01T10:00:09+00:00",
        }
        (folder / "failed.json").write_text(json.dumps(failed))
    return folder


def distill_config(
    seed: int, temperature: float = 4.0, alpha: float = 0.9, freeze: str = "none", loss: str = "kd"
) -> dict:
    terms = {"kl": {"_target_": "kdlab.loss.logit.kl.KL", "weight": 1.0, "temperature": temperature}}
    return {
        "seed": seed,
        "outputs": "/somewhere/outputs",
        "teacher": {"_target_": "kdlab.teacher.live.Live", "run": "bert_base-movie_reviews-11223344"},
        "loss": {
            "alpha": 0.0 if loss == "ce" else alpha,
            "temperature": temperature,
            "terms": {} if loss == "ce" else terms,
        },
        "freeze": {"_target_": f"kdlab.freeze.{freeze}.Policy", "start": {"none": 0, "head": 1, "gradual": 2}[freeze]},
        "optimizer": {"lr": 3e-4},
        "choice": {
            "student": "bert_tiny",
            "loss": loss,
            "freeze": freeze,
            "datamodule": "movie_reviews",
            "task": "text",
        },
    }


def curve(final: float, steps: int, dice: random.Random) -> list[dict]:
    rows = []
    for step in range(1, steps + 1):
        part = step / steps
        rows.append({"step": step * 20, "epoch": part * 5, "train/loss": 0.7 - 0.4 * part + dice.gauss(0, 0.02)})
        if step % 4 == 0:
            reached = 0.5 + (final - 0.5) * (1 - (1 - part) ** 2) + dice.gauss(0, 0.004)
            rows[-1] |= {"val/accuracy": reached, "val/loss": 0.9 - reached / 2}
    return rows


def write_sweep(outputs: Path, seeds: tuple[int, ...] = (1, 2)) -> None:
    """12 settings x the seeds, of them one failed, one interrupted and one missing; a baseline; the teacher's run."""
    dice = random.Random(0)
    teacher = {"test/accuracy": 0.861, "test/f1_macro": 0.86, "model/parameters": 4_385_920, "model/size_mb": 17.5}
    teacher |= {"perf/latency_ms": 9.4, "test/ece": 0.05}
    config = {"seed": 1, "choice": {"model": "bert_mini", "datamodule": "movie_reviews", "task": "text"}}
    write_run(outputs, "finetune", "bert_base-movie_reviews-11223344", config, teacher, curve(0.86, 20, dice))
    job = 0
    settings = [(t, a, f) for f in ("none", "gradual") for a in (0.5, 0.9) for t in (1, 2, 4)]
    for seed in seeds:
        for temperature, alpha, freeze in [*settings, (4, 0, "none")]:
            loss = "ce" if alpha == 0 else "kd"
            config = distill_config(seed, temperature, alpha, freeze, loss)
            luck = dice.gauss(0, 0.004) + 0.003 * seed
            gain = 0.0 if loss == "ce" else 0.012 + 0.012 * (temperature == 4) + 0.008 * (alpha == 0.9)
            accuracy = 0.792 + gain + luck - 0.025 * (freeze == "gradual")
            metrics = {
                "val/accuracy": accuracy + dice.gauss(0, 0.003),
                "test/accuracy": accuracy,
                "test/f1_macro": accuracy - 0.01,
                "test/ece": 0.09 - gain,
                "val/fidelity/agreement": 0.84 + gain,
                "model/parameters": 1_187_330,
                "model/size_mb": 4.7,
                "perf/latency_ms": 2.1 + dice.random() * 0.3,
                **{f"teacher/{name}": value for name, value in teacher.items()},
            }
            job, number = job + 1, job
            state = {4: "failed", 8: "interrupted"}.get(number, "finished")
            if number == 16:
                continue
            overrides = [f"seed={seed}", f"loss={loss}", f"freeze={freeze}"]
            overrides += [] if loss == "ce" else [f"loss.temperature={temperature}", f"loss.alpha={alpha}"]
            name = f"bert_tiny-{loss}-t{temperature}-a{alpha}-{freeze}-s{seed}-{dice.getrandbits(32):08x}"
            history = curve(accuracy, 20 if state == "finished" else 9, dice)
            write_run(
                outputs,
                "distill",
                name,
                config,
                metrics,
                history,
                state,
                group="kd_sweep",
                job=number,
                overrides=overrides,
            )
