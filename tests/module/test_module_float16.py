"""``trainer.precision=16-mixed``, whose gradients are scaled: what clips them or adds to them takes their own size."""

from __future__ import annotations

import pytest
from hydra import initialize_config_dir
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision
from small import crossed, knob, nodes, shrink, small, tiny_teacher, train

from kdlab.__main__ import conf


class Float16(Callback):
    """Computes in float16 with a scaler, on a CPU too, where Lightning would take bfloat16."""

    def setup(self, trainer, pl_module, stage):
        trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("float16")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        job = small("distill", ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}"])
        option = nodes("model", "optimizer", "penalty")
        job = crossed(job, student=shrink(option["model"]["bert_tiny"]), optimizer=option["optimizer"]["adamw"])
        job = knob(job, "optimizer.lr=0.001", "trainer.max_steps=6")
        job.cfg.teacher.run = str(tiny_teacher(job, folder / "teacher"))
        yield job, option


@pytest.mark.parametrize("penalty", ["none", "l2_sp"])
@pytest.mark.parametrize("clip", ["0.01", "null"])
def test_a_fused_optimizer_steps_as_a_plain_one_does(base, clip, penalty):
    job, option = base
    job = knob(crossed(job, penalty=option["penalty"][penalty]), f"trainer.gradient_clip_val={clip}")
    if penalty != "none":
        job = knob(job, "penalty.alpha=5.0")
    fused, plain = (train(knob(job, f"optimizer.fused={fused}"), Float16()) for fused in ("true", "null"))
    assert fused.changed
    assert max(float((fused.after[name] - plain.after[name]).abs().max()) for name in fused.after) < 1e-6


def test_it_learns_as_in_float32(base):
    job = knob(base[0], "optimizer.fused=true", "trainer.gradient_clip_val=0.01")
    half, whole = train(job, Float16()), train(job)
    assert half.losses == pytest.approx(whole.losses, rel=1e-2)
    moved = sum(float((half.after[name] - half.before[name]).square().sum()) for name in half.after)
    assert moved == pytest.approx(
        sum(float((whole.after[name] - whole.before[name]).square().sum()) for name in whole.after), rel=0.2
    )
