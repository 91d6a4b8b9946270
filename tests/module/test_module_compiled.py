"""A compiled student says what an uncompiled one says, with all its taps, and leaves no trace in what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from safetensors.torch import load_file
from small import crossed, knob, nodes, same, shrink, small, tiny_teacher, train
from torch import nn
from torch._dynamo.testing import CompileCounter

from kdlab.config import build, conf
from kdlab.error import UserError
from kdlab.module import compiled
from kdlab.module.compiled import Compiled
from tests.batches import text

TAPS = [
    "embedding", "hidden.0", "hidden.-1", "attention.0", "attention.-1", "query.0", "key.-1", "value.-1", "pooled",
    "module:bert.encoder.layer.0.intermediate",
]  # fmt: skip
SHAPES = [(4, 9), (3, 17), (7, 5), (2, 30), (5, 11)]


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("compiled")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        job = small("distill", ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}", "loss=hint"])
        job = knob(crossed(job, student=shrink(nodes("model")["model"]["bert_tiny"])), "optimizer.lr=1e-3")
        job.cfg.teacher.run = str(tiny_teacher(job, folder / "teacher"))
        job.cfg.student.tokenizer = job.cfg.teacher.run
        yield job


@pytest.fixture(scope="module")
def student(base):
    data = build.data(base.cfg)
    task = build.task(base.cfg, data)
    return build.model(base.cfg.student, task, data).eval(), task


def batch(rows, length, seed=0):
    draw = torch.Generator().manual_seed(seed)
    mask = (torch.arange(length) < torch.randint(2, length + 1, (rows, 1), generator=draw)).long()
    mask[0] = 1
    return text({"input_ids": torch.randint(5, 90, (rows, length), generator=draw), "attention_mask": mask})


def close(one, two, near=1e-4):
    torch.testing.assert_close(one.logits, two.logits, rtol=near, atol=near)
    assert list(one.taps) == list(two.taps)
    for name, tap in one.taps.items():
        torch.testing.assert_close(
            tap, two.taps[name], rtol=near, atol=near, msg=lambda said, name=name: f"{name} {said}"
        )


@pytest.mark.slow
def test_all_taps_are_those_of_the_model_in_few_graphs_whatever_the_lengths(student):
    model, task = student
    count = CompileCounter()
    forward = Compiled(model, TAPS, backend=count)
    for rows, length in SHAPES:
        close(forward.read(task, batch(rows, length), TAPS), task.read(model, batch(rows, length), TAPS))
    assert count.frame_count == 1, "one graph for all lengths and batch sizes"
    forward.reader.model.train()
    for rows, length in SHAPES:
        close(forward.read(task, batch(rows, length), TAPS), task.read(model, batch(rows, length), TAPS))
    assert count.frame_count == 2, "and one in training mode"
    model.eval()


@pytest.mark.slow
def test_gradients_are_those_of_the_model(student):
    model, task = student
    forward, grown = Compiled(model, ["hidden.0"], backend="aot_eager"), []
    for read in (
        lambda: task.read(model, batch(4, 9), ["hidden.0"]),
        lambda: forward.read(task, batch(4, 9), ["hidden.0"]),
    ):
        model.zero_grad()
        said = read()
        (said.logits.square().sum() + said.taps["hidden.0"].square().sum()).backward()
        grown.append({name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})
    assert grown[0].keys() == grown[1].keys() and len(grown[0]) > 20
    for name, gradient in grown[0].items():
        torch.testing.assert_close(gradient, grown[1][name], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_others_read_the_model_uncompiled_and_its_names_stay(student):
    model, task = student
    names = list(model.state_dict())
    count = CompileCounter()
    forward = Compiled(model, ["pooled"], backend=count)
    forward.read(task, batch(4, 9), ["pooled"])
    assert count.frame_count == 1
    task.read(model, batch(4, 9), ["pooled"])
    task.read(model, batch(4, 9), ["hidden.0"])
    model(**batch(4, 9).inputs)
    assert count.frame_count == 1 and list(model.state_dict()) == names and "_orig_mod" not in " ".join(names)


class Broken(nn.Module):
    """Prints in the middle of its pass, which no graph can hold."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, input_ids, attention_mask):
        states = self.linear(nn.functional.one_hot(input_ids[:, 0] % 4, 4).float())
        torch._dynamo.graph_break()
        return states


def test_a_graph_break_is_one_sentence(student):
    forward = Compiled(Broken(), (), backend="eager")
    with pytest.raises(
        UserError, match=r"Broken cannot be compiled .*: set compile=false, or choose another model"
    ) as told:
        forward.read(student[1], batch(2, 4))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("how", ["none", "elsewhere"])
def test_a_missing_compiler_is_one_sentence(student, monkeypatch, how):
    def missing():
        raise RuntimeError("no compiler")

    monkeypatch.setattr(compiled.cpp_builder, "get_cpp_compiler", missing if how == "none" else lambda: "no-such-g++")
    with pytest.raises(UserError, match=r"compile=true needs a C\+\+ compiler, and none is found: install one"):
        Compiled(student[0], ())


@pytest.mark.parametrize("module", ["vat", "mutual"])
def test_rules_that_do_more_than_read_are_refused(module):
    from kdlab.module.mutual import Mutual
    from kdlab.module.vat import Vat

    rule = {"vat": Vat, "mutual": Mutual}[module]
    with pytest.raises(UserError, match=f"compile=true compiles .* module={module} does more with"):
        rule.compile_student(rule.__new__(rule), None)


def test_a_head_that_runs_apart_is_refused(base):
    from types import SimpleNamespace

    from kdlab.module.finetune import Finetune

    rule = Finetune.__new__(Finetune)
    torch.nn.Module.__init__(rule)
    rule.task = SimpleNamespace(chunk=7)
    with pytest.raises(UserError, match=r"compile=true needs a whole model, whose head task\.chunk=7 runs apart"):
        rule.compile_student(SimpleNamespace(strategy=None))


class Begin(pytest.importorskip("lightning.pytorch").Callback):
    """Compiles the student of a training, or its graphs only (which takes no compiler)."""

    def __init__(self, backend="aot_eager"):
        self.backend = backend

    def on_fit_start(self, trainer, learner):
        learner.forward_pass = Compiled(learner.model, learner.taps, self.backend)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["kd", "hint", "tinybert"])
def test_a_training_has_the_same_losses(base, loss):
    job = crossed(base, loss=build_loss(loss))
    plain, graphs = train(job), train(job, Begin())
    np.testing.assert_allclose(plain.losses, graphs.losses, rtol=1e-4, atol=1e-4)
    assert plain.after.keys() == graphs.after.keys() and graphs.changed


def build_loss(option):
    from hydra import compose

    return compose("distill", [f"loss={option}"]).loss


@pytest.mark.rare
@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_compiled_kernels_give_the_same_losses_and_twice_the_same_bits(base, dropout):
    job = knob(base, f"student.dropout={dropout}", "trainer.max_steps=12")
    plain, one, two = train(job), train(job, Begin("inductor")), train(job, Begin("inductor"))
    assert same(one.after, two.after) and one.losses == two.losses
    if dropout:
        assert plain.losses != one.losses and np.mean(np.abs(np.subtract(plain.losses, one.losses))) < 0.5
    else:
        np.testing.assert_allclose(plain.losses, one.losses, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_run_is_saved_and_read_as_any_other(kdlab, tiny):
    words = [*tiny["finetune"], "logger=csv", "model.dropout=0.1"]

    def run(outputs, *more):
        code, _, err = kdlab("finetune", *words, f"outputs={outputs}", *more)
        assert code == 0, err
        (folder,) = (path for path in Path(outputs, "finetune").glob("*") if (path / "done.json").exists())
        return folder

    whole = run("whole", "compile=true")
    names = load_file(whole / "model/model.safetensors").keys()
    assert not any("_orig_mod" in name for name in names)
    assert names == load_file(run("plain") / "model/model.safetensors").keys()
    state = torch.load(whole / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert not any("_orig_mod" in name for name in state)
    plain = torch.load(next(Path("plain/finetune").glob("*/checkpoints/last.ckpt")), weights_only=True)["state_dict"]
    assert state.keys() == plain.keys(), "either loads in the other"
    code, _, err = kdlab("evaluate", f"run={whole.name}", "outputs=whole")
    assert code == 0, err
