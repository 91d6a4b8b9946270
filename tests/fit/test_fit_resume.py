"""kill -9 at any moment, then the same command: it goes on, and ends with the same weights, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from bits import history, same, same_run
from fork import end, start

STUDENT = "kdlab.module.distill.Distill"
TEACHER = "kdlab.module.finetune.Finetune"
BOTH = "kdlab.module.base.TrainingRule"  # the teacher is trained first, so its calls count too: 2 validations, 1 test

# what the process dies in (the name of a function, and in which of its calls), and what has been kept until then
MOMENTS = {
    "in the middle of an epoch": (f"{STUDENT}.training_step", 13),
    "while the teacher trains": (f"{TEACHER}.training_step", 12),
    "while the store is written": ("kdlab.store.store.sha256", 1),
    "just before done.json": ("kdlab.artifact.run.Run.finish", 2),
}
MORE = {
    "in validation": (f"{BOTH}.validation_step", 4),
    "before the first step": (f"{STUDENT}.training_step", 1),
    "at the end of an epoch": (f"{STUDENT}.training_step", 17),
    "in the last step": (f"{STUDENT}.training_step", 24),
    "in the teacher's validation": (f"{BOTH}.validation_step", 2),
    "just before the teacher's done.json": ("kdlab.artifact.run.Run.finish", 1),
    "before the store is begun": ("kdlab.teacher.cached.open_or_build", 1),
    "in the test": (f"{BOTH}.test_step", 2),
    "while the model is saved": ("kdlab.fit.job.save_finished", 2),
    "as the first checkpoint is written": ("kdlab.callback.checkpoint.Checkpoint._save", 1),
}


def words(tiny, *more: str) -> list[str]:
    changes = (
        "trainer.max_epochs=3",
        "trainer.log_every_n_steps=1",
        "callback.checkpoint.every_n_steps=3",
        "logger=none",
    )
    return ["distill", *tiny["distill"], *changes, *more]


GRADUAL = (
    "freeze=gradual",
    "+schedule@loss.alpha=linear",
    "+schedule@loss.temperature=cosine",
    "loss.temperature.start=4.0",
)


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory):
    """The folder in which a command ran from beginning to end; done once for each command."""
    done: dict[tuple[str, ...], Path] = {}

    def folder(*more: str) -> Path:
        if more not in done:
            done[more] = tmp_path_factory.mktemp("whole")
            code, said = end(start(words(tiny, *more), done[more]), done[more])
            assert code == 0, said
        return done[more]

    return folder


def killed_then_resumed(tiny, folder: Path, more: tuple[str, ...], *moments: tuple[str, int]) -> None:
    for name, call in moments:
        code, said = end(start(words(tiny, *more), folder, kill=name, call=call), folder)
        assert code == -9, f"not killed: {name} is not called {call} times\n{said}"
        assert not list(folder.glob("outputs/distill/*/done.json"))
    code, said = end(start(words(tiny, *more), folder), folder)
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_to_the_same_weights_and_history(tmp_path, tiny, undisturbed, moment):
    killed_then_resumed(tiny, tmp_path, GRADUAL, MOMENTS[moment])
    same(undisturbed(*GRADUAL), tmp_path)


@pytest.mark.rare
@pytest.mark.slow
def test_a_compiled_run_goes_on_to_the_same_weights(tmp_path, tiny, undisturbed):
    more = ("compile=true", "student.dropout=0.1")
    killed_then_resumed(tiny, tmp_path, more, (f"{STUDENT}.training_step", 13))
    same(undisturbed(*more), tmp_path)


LISTENING = (
    "+schedule@loss.alpha=plateau", "loss.alpha.patience=1", "loss.alpha.min_delta=2",
    "+schedule@loss.terms.kl.weight=early_stop", "loss.terms.kl.weight.patience=1", "loss.terms.kl.weight.after=0.5",
    "loss.terms.kl.weight.min_delta=2", "loss/balance=dwa",
    "datamodule/curriculum=teacher",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("moment", [13, 22])
def test_what_listens_to_the_validation_goes_on_too(tmp_path, tiny, undisturbed, moment):
    killed_then_resumed(tiny, tmp_path, LISTENING, (f"{STUDENT}.training_step", moment))
    same(undisturbed(*LISTENING), tmp_path)
    (run,) = (path.parent for path in tmp_path.glob("outputs/distill/*/done.json"))
    rows = [row for row in history(run) if row["train/schedule/alpha"]]
    course = [(float(row["train/schedule/alpha"]), float(row["train/schedule/kl.weight"])) for row in rows]
    told = [value for place, value in enumerate(course) if place == 0 or value != course[place - 1]]
    assert told == [(pytest.approx(0.9), pytest.approx(0.9)), (pytest.approx(0.45), 0.5)]
    kept = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["schedules"]
    assert any("times" in state for state in kept) and any("stopped" in state for state in kept)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_an_interrupted_run_says_so_and_goes_on(tmp_path, tiny, undisturbed, by):
    name, call = MOMENTS["in the middle of an epoch"]
    process = start(words(tiny, *GRADUAL), tmp_path, name, call, by)
    code, said = end(process, tmp_path)
    assert code == 130, said
    assert said.splitlines()[-1] == "error: interrupted; the same command goes on from the last checkpoint"
    assert "Traceback" not in said
    assert not list(tmp_path.glob("outputs/distill/*/done.json"))
    assert not list(tmp_path.glob("outputs/distill/*/failed.json"))
    code, said = end(start(words(tiny, *GRADUAL), tmp_path), tmp_path)
    assert code == 0, said
    same(undisturbed(*GRADUAL), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MORE)
def test_a_run_killed_at_a_rarer_moment_goes_on_too(tmp_path, tiny, undisturbed, moment):
    killed_then_resumed(tiny, tmp_path, GRADUAL, MORE[moment])
    same(undisturbed(*GRADUAL), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("freeze=none",),
        ("freeze=none", "teacher=live"),
        ("loss=hint", "freeze=bottom", "freeze.layers=1"),
        ("trainer.accumulate_grad_batches=2",),
        ("loss=hint", "loss/balance=uncertainty"),
        ("loss=hint", "loss/balance=gradnorm", "trainer.accumulate_grad_batches=2"),
    ],
    ids=str,
)
def test_a_run_killed_twice_goes_on_whatever_its_options(tmp_path, tiny, undisturbed, more):
    step = f"{STUDENT}.training_step"
    killed_then_resumed(tiny, tmp_path, more, (step, 6), (step, 9))
    same(undisturbed(*more), tmp_path)


OWN = {
    "mean teacher": ("teacher=ema", "teacher.decay=0.9", "datamodule/augment=word_dropout"),
    "peers": ("module=mutual", "teacher=peer"),
    "queue": ("loss=seed", "loss.terms.seed.size=24", "datamodule/augment=word_swap"),
    "adversary": ("module=vat", "teacher=self"),
    "start": ("teacher=self", "penalty=l2_sp", "penalty.alpha=0.5", "optimizer.weight_decay=0"),
    "low rank": ("teacher=ema", "peft=lora", "peft.dropout=0.2", "freeze=gradual"),
    "adapters": ("teacher=self", "peft=adapter", "peft.size=4"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mean teacher", *(pytest.param(name, marks=pytest.mark.slow) for name in OWN if name != "mean teacher")]
)
def test_what_learns_beside_the_student_goes_on_too(tmp_path, tiny, name):
    """Peers, a moving average, a queue: killed in the middle of an epoch, and the same bit for bit."""
    own = [word for word in tiny["distill"] if "teacher" not in word or "loss" in " ".join(OWN[name][:1])]
    tiny = {"distill": own}
    more = (*OWN[name], "trainer.max_epochs=1")
    rule = {"peers": "kdlab.module.mutual.Mutual", "adversary": "kdlab.module.vat.Vat"}.get(name, STUDENT)
    for folder in (tmp_path / "whole", tmp_path / "killed"):
        moments = [(f"{rule}.training_step", 6)] if folder.name == "killed" else []
        folder.mkdir()
        for place, call in moments:
            code, said = end(start(words(tiny, *more), folder, kill=place, call=call), folder)
            assert code == -9, said
        code, said = end(start(words(tiny, *more), folder), folder)
        assert code == 0, said
    one, two = (next((tmp_path / folder).glob("outputs/distill/*/done.json")).parent for folder in ("whole", "killed"))
    same_run(one, two)
    kept = torch.load(one / "checkpoints/last.ckpt", weights_only=True)
    assert ("teacher" in kept) == any("ema" in word or "self" in word for word in OWN[name])
