"""A language model from the command line: fine-tuned, distilled from its stored largest logits, evaluated, reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from safetensors.torch import load_file
from small import crossed, knob, nodes, shrink, small, train
from undeclared import undeclared

from kdlab.config import build, conf
from kdlab.model.gpt import gpt
from kdlab.model.save import save
from kdlab.store.packed import LEVELS, Packing, kl_change

TINY = ("hidden_size=16", "layers=2", "heads=2", "intermediate_size=32", "tokenizer=train:wordpiece:200")


@pytest.fixture(scope="module")
def texts(tmp_path_factory, reviews) -> Path:
    """The reviews without their labels."""
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in reviews.read_text().splitlines()))
    return path


@pytest.fixture(scope="module")
def words(texts) -> dict[str, list[str]]:
    shared = [
        "task=causal_lm",
        "metric=[causal_lm,fidelity]",
        "datamodule=table",
        f"datamodule.path={texts}",
        "logger=none",
    ]
    shared += ["datamodule.label_column=null", "datamodule.batch_size=16", "trainer.max_epochs=1"]
    shared += ["trainer.precision=32-true"]
    teacher = [*shared, "model=gpt_tiny", *[f"model.{word}" for word in TINY], "optimizer.lr=1e-2"]
    recipe = ",".join(f"'{word}'" for word in teacher)
    student = [f"student.{word}" for word in TINY] + [f"teacher.model.{word}" for word in TINY]
    student += ["model@student=gpt_tiny", "model@teacher.model=gpt_tiny", f"teacher.recipe=[{recipe}]"]
    return {"finetune": teacher, "distill": [*shared, *student]}


def numbers(command: str) -> dict[str, float]:
    (path,) = Path("outputs", command).glob("*/metrics.json")
    return json.loads(path.read_text())


@pytest.mark.slow
def test_texts_without_labels_become_a_student_that_is_evaluated_and_reported(kdlab, words):
    code, out, err = kdlab("distill", *words["distill"], "loss=kd_top_k", "teacher.top_k=8", "task.chunk=64")
    assert code == 0, out + err
    assert "the 8 largest logits, packed, 27 bytes a token" in out
    found = numbers("distill")
    assert {"test/perplexity", "test/accuracy", "best/val/accuracy", "test/fidelity/kl"} <= set(found)
    assert 1 < found["test/perplexity"] < 220 and "test/f1_macro" not in found
    code, out, err = kdlab("store")
    assert code == 0, out + err
    assert {"largest", "packed,", "27"} <= set(out.split()), "of the column that the table wraps"
    (run,) = Path("outputs/distill").glob("*/done.json")
    assert undeclared(run.parent) == set()
    code, out, err = kdlab("evaluate", f"run={run.parent.name}", "repeats=1")
    assert code == 0, out + err
    assert "perplexity" in out and "per class" not in out
    (report,) = Path("outputs/evaluate").glob("*/report.json")
    models = json.loads(report.read_text())["models"]
    assert models["distilled"]["perplexity"] == pytest.approx(found["test/perplexity"], rel=1e-4)
    assert models["distilled"]["accuracy"] == pytest.approx(found["test/accuracy"], rel=1e-4)
    assert models["teacher"]["agreement"] == 1 and models["distilled"]["agreement"] < 1
    for command in (["report"], ["runs"]):
        code, out, err = kdlab(*command)
        assert code == 0, out + err


@pytest.mark.slow
def test_a_run_of_no_step_measures_and_saves_the_model_as_it_is(kdlab, words):
    start = ["start=first", "trainer.max_steps=0"]
    code, out, err = kdlab("finetune", *words["finetune"])
    assert code == 0, out + err
    (first,) = Path("outputs/finetune").glob("*")
    first.rename(first.with_name("first"))
    code, out, err = kdlab("finetune", *words["finetune"], *start)
    assert code == 0, out + err
    (second,) = (path for path in Path("outputs/finetune").glob("*") if path.name != "first")
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (first.with_name("first"), second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (first.with_name("first"), second))
    assert after["test/bits_per_byte"] == before["test/bits_per_byte"] > 0
    assert after["best/val/perplexity"] > 1 and after["best/step"] == 0
    assert len(np.load(second / "trained_on.npy")), "the rows of the run that it starts from"


@pytest.mark.slow
def test_a_teacher_that_took_no_step_learned_from_no_row(kdlab, words):
    recipe = ",".join(f"'{word}'" for word in [*words["finetune"], "trainer.max_steps=0"])
    words = [*words["distill"], f"teacher.recipe=[{recipe}]", "loss=kd_top_k", "teacher.top_k=8"]
    code, out, err = kdlab("distill", *words)
    assert code == 0, out + err
    (teacher,) = Path("outputs/finetune").glob("*")
    assert len(np.load(teacher / "trained_on.npy")) == 0
    assert 0 <= numbers("distill")["test/fidelity/agreement"] <= 1


@pytest.mark.slow
def test_doctor_looks_at_a_language_model(kdlab, words):
    code, out, err = kdlab("doctor", "distill", *words["distill"], "loss=kd_top_k", "teacher.top_k=8")
    assert code == 0, out + err
    assert "GPT2LMHeadModel" in out


REFUSED = {
    "metric": (["metric=classification"], "metric=[causal_lm,fidelity,cost]"),
    "model": (["model@student=bert_tiny"], "model=gpt_tiny"),
    "term": (["loss=kd", "teacher.top_k=8"], "loss=kd_top_k"),
    "temperature": (["loss=kd_top_k", "teacher.top_k=8", "loss.temperature=3"], "add it to teacher.temperatures"),
    "relating": (["loss=dist"], "relates the rows"),
    "taps": (["loss=hint", "task.chunk=8"], "task.chunk=null"),
    "balance": (["loss=kd", "task.chunk=8", "loss/balance=uncertainty"], "task.chunk=null"),
    "curriculum": (["datamodule/curriculum=teacher"], "predict tokens"),
    "module": (["module=vat", "task.chunk=8"], "task.chunk=null"),
    "ensemble": (
        [
            "teacher=ensemble", "+teacher@teacher.members.one=cached", "+teacher@teacher.members.two=cached",
            "teacher.members.one.top_k=8", "teacher.members.one.run=FINISHED", "teacher.members.two.run=FINISHED",
        ],
        "an ensemble combines all",
    ),
}  # fmt: skip


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(kdlab, words, case):
    more, sentence = REFUSED[case]
    own = words["distill"]
    if case == "ensemble":
        own = [word for word in own if not word.startswith(("teacher.", "model@teacher"))]
    if case == "model":
        own = [word for word in own if not word.startswith("model@student")]
    if case == "ensemble":
        assert kdlab("finetune", *words["finetune"])[0] == 0
        (finished,) = Path("outputs/finetune").glob("*")
        more = [word.replace("FINISHED", finished.name) for word in more]
    code, out, err = kdlab("distill", *own, *more)
    assert code != 0 and sentence in " ".join(err.split()), out + err
    assert "Traceback" not in err


def test_classification_without_labels_is_still_refused(kdlab, words):
    own = [word for word in words["finetune"] if not word.startswith(("task", "metric"))]
    code, out, err = kdlab("finetune", *own)
    assert code == 2 and "no training row has a label" in err, out + err
    assert "kdlab distill teacher.run=ID loss.alpha=1" in err and err.count("error: ") == 1


@pytest.fixture(scope="module")
def job(tmp_path_factory, texts):
    """A distillation between small language models, with all that is put into it."""
    folder = tmp_path_factory.mktemp("language")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        words = ["datamodule=table", f"datamodule.path={texts}", "datamodule.label_column=null", f"outputs={folder}"]
        base = small(
            "distill",
            [*words, "task=causal_lm", "metric=[causal_lm,fidelity]", "model@student=gpt_tiny", "loss=kd_top_k"],
        )
        base = knob(crossed(base, student=shrink(base.cfg.student)), "trainer.gradient_clip_val=null")
        base.cfg.optimizer = nodes("optimizer")["optimizer"]["sgd"]
        base.cfg.optimizer.lr = 1.0
        data = build.data(base.cfg)
        task = build.task(base.cfg, data)
        model = task.attach(gpt(24, 3, 2, 32, 0.0, 64, tokenizer=data.tokenizer, labels=[], task="causal_lm"))
        for parameter in model.parameters():
            parameter.data *= 3
        base.cfg.teacher.run = str(save(model, data.tokenizer, folder / "teacher"))
        yield base


def live(job):
    other = crossed(job, teacher=job.cfg.teacher.copy())
    other.cfg.teacher._target_ = "kdlab.teacher.live.Live"
    del other.cfg.teacher.tokens_per_batch, other.cfg.teacher.dtype, other.cfg.teacher.top_k_dtype
    return other


def apart(one, two) -> float:
    return max(float((one.after[name] - two.after[name]).abs().max()) for name in one.after)


@pytest.mark.slow
@pytest.mark.parametrize("top_k", ["null", "6"])
def test_stored_or_live_in_parts_or_whole_in_one_batch_or_several_the_run_is_the_same(job, top_k):
    base = knob(job, f"teacher.top_k={top_k}", "teacher.top_k_dtype=float32")
    plain = train(base)
    assert apart(plain, train(knob(base, "loss.alpha=0.1"))) > 1e-3, "the run learns enough to tell"
    others = {
        "live": live(base), "parts": knob(base, "task.chunk=7"), "live parts": knob(live(base), "task.chunk=7"),
        "micro-batches": knob(base, "trainer.accumulate_grad_batches=4"),
        "all": knob(base, "trainer.accumulate_grad_batches=2", "task.chunk=5"),
    }  # fmt: skip
    for name, other in others.items():
        assert apart(plain, train(other)) < 1e-5, name
    clipped = [knob(one, "trainer.gradient_clip_val=0.01") for one in (base, others["parts"])]
    assert apart(*map(train, clipped)) < 1e-5


@pytest.mark.slow
def test_all_of_the_largest_logits_are_all_logits(job):
    whole = train(knob(job, "teacher.top_k=null"))
    assert apart(whole, train(knob(job, "teacher.top_k=100000", "teacher.top_k_dtype=float32"))) < 1e-5
    assert apart(whole, train(knob(job, "teacher.top_k=1"))) > 1e-4


@pytest.mark.parametrize("dtype", ["packed", "float16"])
def test_few_bits_of_what_is_stored_are_near(job, dtype):
    base = knob(job, "teacher.top_k=6", "teacher.top_k_dtype=float32")
    assert 0 < apart(train(base), train(knob(base, f"teacher.top_k_dtype={dtype}"))) < 1e-2


@pytest.mark.parametrize("temperature", [1.0, 8.0])
def test_a_live_teacher_and_packed_targets_give_the_same_loss_within_the_bound(job, temperature):
    base = knob(job, "teacher.top_k=6", f"loss.temperature={temperature}", "loss.alpha=1", "optimizer.lr=0.0")
    stored, computed = train(base), train(live(base))
    for one, two in zip(stored.losses, computed.losses, strict=True):
        # the teacher's six largest logits are less than 1 apart
        assert abs(one - two) < temperature**2 * kl_change(two / temperature**2, 0.5 / LEVELS / temperature + 2**-8)
        assert abs(one - two) < 1e-2 * two


def test_a_layer_of_the_teacher_is_a_student(job):
    node = nodes("model")["model"]["layers_of_teacher"]
    node.layers, node.tokenizer = [0, 2], job.cfg.teacher.run
    result = train(knob(crossed(job, student=node), "teacher.top_k=6"))
    assert result.changed and type(result.learner.model).__name__ == "GPT2LMHeadModel"
    assert len(result.learner.model.transformer.h) == 2


def test_a_pretrained_language_model_by_path_is_a_student(job):
    node = nodes("model")["model"]["hf"]
    node.path, node.dropout = job.cfg.teacher.run, 0.0
    result = train(knob(crossed(job, student=node), "teacher.top_k=6", "optimizer.lr=0.0"))
    assert result.losses[0] > 0 and not result.changed


@pytest.mark.slow
def test_a_store_is_shared_by_chunk_sizes_and_kept_apart_by_k(job, tmp_path):
    base = knob(job, f"outputs={tmp_path}", "teacher.top_k=6")
    for word in ("task.chunk=null", "task.chunk=9", "teacher.top_k=4", "teacher.top_k_dtype=float32"):
        train(knob(base, word))
    metas = [json.loads(path.read_text()) for path in tmp_path.glob("store/*/meta.json")]
    assert sorted((meta["top_k"], meta["top_k_dtype"]) for meta in metas) == [
        (4, "packed"), (6, "float32"), (6, "packed"),
    ]  # fmt: skip
    sizes = {meta["top_k_bytes"] for meta in metas if meta["top_k_dtype"] == "packed"}
    assert sizes == {Packing.read(meta["packing"]).size for meta in metas if "packing" in meta}
    assert [meta["top_k_bytes"] for meta in metas if meta["top_k_dtype"] == "float32"] == [6 * 8 + 16]
