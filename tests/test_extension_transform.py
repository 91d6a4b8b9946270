"""A user's own transform: one Python file and one YAML outside the repository, and nothing else edited."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from bits import same_run
from fork import end, start
from safetensors.torch import load_file

from kdlab.artifact.trained import named
from kdlab.config.stored import read_config

FILES = {
    "prune.py": '''
        """Magnitude pruning: the smallest weights are 0, more of them as training goes on."""
        import torch

        from kdlab.error import UserError
        from kdlab.transform.base import Transform

        class Prune(Transform):
            """A weight that was pruned stays so.

            Args:
                sparsity: the share of weights that are 0 in the end.
                until: the progress at which it is reached.

            Source: Zhu, Gupta 2017, arXiv:1710.01878, equation 1.
            """

            def __init__(self, sparsity: float, until: float):
                self.sparsity, self.until, self.masks = sparsity, until, {}

            def attach(self, model, data):
                self.names = [name for name, one in model.named_parameters() if "layer" in name and one.ndim == 2]
                if not self.names:
                    raise UserError(f"transform.prune finds no layers in {type(model).__name__}: use a transformer")
                return model

            @torch.no_grad()
            def after_step(self, model, progress):
                share = self.sparsity * (1 - max(0.0, 1 - progress / self.until) ** 3)
                for name in self.names:
                    weight = model.get_parameter(name)
                    weight *= self.masks.get(name, 1.0)
                    mask = torch.ones_like(weight)
                    mask.view(-1)[weight.abs().flatten().argsort()[: round(share * weight.numel())]] = 0
                    weight *= mask
                    self.masks[name] = mask

            def complete(self, progress):
                return progress >= self.until

            def state(self):
                return dict(self.masks)

            def load_state(self, state):
                self.masks = dict(state)
        ''',
    "conf/transform/prune.yaml": """
        # Magnitude pruning
        prune:
          _target_: prune.Prune
          sparsity: 0.5   # share of the weights of each layer that are 0 in the end
          until: 0.75     # progress at which it is reached
        """,
}
EPOCHS, STEPS = 3, 24
WEIGHTS = "model/model.safetensors"


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """The user's folder, outside the repository."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text).lstrip())
    return folder


@pytest.fixture
def words(mine, tiny, tmp_path) -> list[str]:
    own = ["distill", "--config-dir", str(mine / "conf"), *tiny["distill"], "transform=[prune]", "logger=none"]
    return [*own, f"trainer.max_epochs={EPOCHS}", "callback.checkpoint.every_n_steps=3", "trainer.log_every_n_steps=1"]


def done(words: list[str], folder: Path, **kill) -> Path:
    """The run that a command leaves below ``folder``."""
    folder.mkdir(exist_ok=True)
    if kill:
        code, said = end(start(words, folder, **kill), folder)
        assert code == -9, said
        (path,) = folder.glob("outputs/distill/*/checkpoints/last.ckpt")
        assert set(torch.load(path, weights_only=True)["transforms"]["transform.prune"]), "the masks are kept"
    code, said = end(start(words, folder), folder)
    assert code == 0, said
    (path,) = folder.glob("outputs/distill/*/done.json")
    return path.parent


def zeros(weights: dict[str, torch.Tensor]) -> dict[str, float]:
    found = {name: one for name, one in weights.items() if "layer" in name and one.ndim == 2}
    return {name: float((one == 0).float().mean()) for name, one in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["cached", "live"])
def test_a_pruned_run_goes_on_after_a_kill_to_the_same_bits_and_is_saved_pruned(words, tmp_path, teacher):
    words = [*words, f"teacher={teacher}", "peft=none"]
    whole = done(words, tmp_path / "whole")
    killed = done(words, tmp_path / "killed", kill="kdlab.module.distill.Distill.training_step", call=13)
    same_run(whole, killed)
    saved = zeros(load_file(whole / WEIGHTS))
    assert saved and all(share == pytest.approx(0.5, abs=0.01) for share in saved.values())
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["best/step"] == STEPS, "of what is not pruned yet, nothing is the best"
    assert not (whole / "model/transform.json").exists(), "it is a plain model"


@pytest.mark.slow
def test_transforms_are_composed_swept_and_read_again(kdlab, mine, words, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(mine))
    verb, *words = [word for word in words if not word.startswith(("transform=", "trainer.max_epochs"))]
    words = ["-m", *words, "trainer.max_epochs=1"]
    code, _, err = kdlab(verb, *words, "transform=[lora,prune],none", "transform.lora.rank=2")
    assert code == 2 and "write transform.lora.rank='choice(2)'" in err
    code, out, err = kdlab(verb, *words, "transform=[lora,prune],[lora]", "transform.lora.rank=choice(2)")
    assert code == 0, out + err
    folders = [path.parent for path in Path("outputs/distill").glob("*/done.json")]
    both, alone = sorted(folders, key=lambda folder: -len(read_config(folder).transform))
    assert [list(read_config(one).transform) for one in (both, alone)] == [["lora", "prune"], ["lora"]]
    assert set(load_file(both / WEIGHTS)) == set(load_file(alone / WEIGHTS)), "merged"
    assert not any("lora" in name for name in load_file(both / WEIGHTS))
    assert max(zeros(load_file(alone / WEIGHTS)).values()) < 0.05 < min(zeros(load_file(both / WEIGHTS)).values())
    code, _, err = kdlab("evaluate", f"run={both.name}", "repeats=1")
    assert code == 2 and "which no installed option names" in err
    code, out, err = kdlab("evaluate", "--config-dir", str(mine / "conf"), f"run={both.name}", "repeats=1")
    assert code == 0, err
    assert named(both.name, Path("outputs")).weights == both / "model"


@pytest.mark.sampled(1, tried="all")
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["trainer=fsdp"], "transform.prune (Prune) needs whole weights, of which trainer=fsdp leaves each process"),
        (["model@student=linear", "student.tokenizer=train:wordpiece:200"], "transform.prune finds no layers in"),
        (["transform=[prunes]"], "There is no transform=prunes. Did you mean"),
        (["transform.prune.sparsty=0.2"], "sparsty"),
    ],
)
def test_what_cannot_be_is_one_sentence_before_a_teacher_is_trained(kdlab, mine, words, monkeypatch, more, told):
    monkeypatch.syspath_prepend(str(mine))
    other = more[0].startswith("model@student")
    code, _, err = kdlab(*[word for word in words if not (other and "student" in word)], *more)
    assert code == 2, err
    assert told in err and err.count("error") == 1 and "Traceback" not in err
    assert not list(Path("outputs/finetune").glob("*/done.json"))
