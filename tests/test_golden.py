"""Twenty steps of tiny runs against the curves in golden/: a refactor proves that it changes no result."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import initialize_config_dir
from small import TOKENIZER, crossed, knob, nodes, shrink, small, tiny_teacher, train

from kdlab.config import conf

GOLDEN = Path(__file__).parent / "golden"
STEPS = 20
RUNS = {
    "ce": ("mlp", ["task.label_smoothing=0.1"]),
    "kd": ("mlp", ["datamodule.per_class=20", "loss.alpha=0.7"]),
    "hint": ("bert_tiny", ["loss.terms.hint.taps.student=hidden.0", "trainer.accumulate_grad_batches=2"]),
    "rkd": ("mlp", ["loss.temperature=4.0", "loss.terms.distance.weight=5.0", "optimizer.weight_decay=0.1"]),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("golden")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        job = small("distill", ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}"])
        job = knob(job, "optimizer.lr=0.02", f"trainer.max_steps={STEPS}")
        job.cfg.student.tokenizer = TOKENIZER
        job.cfg.teacher.run = str(tiny_teacher(job, folder / "teacher"))
        yield job


@pytest.mark.parametrize("loss", RUNS)
def test_the_loss_of_every_step_is_as_it_was(base, loss, request):
    student, words = RUNS[loss]
    option = nodes("loss", "model")
    job = knob(crossed(base, loss=option["loss"][loss], student=shrink(option["model"][student])), *words)
    losses = train(job).losses
    path = GOLDEN / f"{loss}.txt"
    if request.config.getoption("--golden-write"):
        path.write_text("".join(f"{step} {value:.7f}\n" for step, value in enumerate(losses[:STEPS])))
    golden = [line.split() for line in path.read_text().splitlines()]
    assert [int(step) for step, _ in golden] == list(range(STEPS))
    assert losses[:STEPS] == pytest.approx([float(value) for _, value in golden], abs=1e-5, rel=1e-5)
    assert sum(losses[-5:]) < sum(losses[:5]), "a curve that does not fall holds little"
