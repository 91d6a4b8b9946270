"""What follows a validation metric is looked at before anything is trained."""

import json
from pathlib import Path

import pytest
from undeclared import undeclared


@pytest.mark.sampled(2, tried="all")
@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        ("finetune", ["callback.checkpoint.monitor=val/applause"],
         "callback.checkpoint.monitor=val/applause is not measured in validation: choose one of val/accuracy"),
        ("finetune", ["callback.checkpoint.monitor=val/loss", "callback.checkpoint.mode=max"],
         "callback.checkpoint.mode=max, but less of val/loss is better: set it to min or null"),
        ("finetune", ["callback.checkpoint.mode=up"], "callback.checkpoint.mode is 'up', but must be one of max, min"),
        ("finetune", ["callback=[default,early_stopping]", "callback.early_stopping.monitor=val/fidelity/kl"],
         "callback.early_stopping.monitor=val/fidelity/kl is not measured in validation"),
        ("distill", ["callback=[default,early_stopping]", "callback.early_stopping.monitor=val/fidelity/kl",
                     "callback.early_stopping.mode=max"], "but less of val/fidelity/kl is better"),
        ("distill", ["+schedule@loss.alpha=plateau", "loss.alpha.monitor=val/f2"],
         "loss.alpha.monitor=val/f2 is not measured in validation"),
        ("distill", ["+schedule@loss.alpha=early_stop", "loss.alpha.mode=min"],
         "loss.alpha.mode=min, but more of val/accuracy is better"),
        ("distill", ["seed=0,1", "callback.checkpoint.monitor=val/f2"], "is not measured in validation"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_before_a_teacher_is_trained(kdlab, tiny, command, words, told):
    code, _, err = kdlab(command, *(["-m"] if "seed=0,1" in words else []), *tiny[command], *words)
    assert code == 2
    assert told in err
    assert not list(Path("outputs").glob("*/*/checkpoints"))


@pytest.mark.slow
def test_the_lowest_loss_is_kept_without_a_word_on_the_mode(kdlab, tiny):
    words = ["callback=[default,early_stopping]", "callback.checkpoint.monitor=val/loss"]
    words += ["callback.early_stopping.monitor=val/loss", "callback.early_stopping.patience=2"]
    code, _, err = kdlab("finetune", *tiny["finetune"], *words, "trainer.max_epochs=3")
    assert code == 0, err
    (run,) = Path("outputs/finetune").iterdir()
    rows = [line.split(",") for line in (run / "history.csv").read_text().splitlines()]
    column = rows[0].index("val/loss")
    losses = [float(row[column]) for row in rows[1:] if row[column]]
    done = json.loads((run / "done.json").read_text())
    assert done["metric"] == "val/loss"
    assert done["value"] == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.slow
def test_peers_are_measured_and_declared_too(kdlab, tiny):
    words = [*tiny["distill"], "module=mutual", "teacher=peer", "logger=none", "+schedule@loss.alpha=plateau"]
    words = [word for word in words if not word.startswith(("teacher.", "model@teacher"))]
    code, _, err = kdlab("distill", *words, "callback.checkpoint.monitor=val/peer2/accuracy")
    assert code == 2
    assert "monitor=val/peer2/accuracy is not measured in validation" in err
    code, _, err = kdlab("distill", *words, "callback.checkpoint.monitor=val/peer/accuracy")
    assert code == 0, err
    (run,) = [path.parent for path in Path("outputs/distill").glob("*/done.json")]
    assert undeclared(run) == set()


METRIC = '''
from torchmetrics import Metric, MetricCollection, MeanSquaredError

class Squared(MeanSquaredError):
    """The Brier score of the first class."""

    def update(self, probabilities, target):
        super().update(probabilities[:, 0].float(), (target == 0).float())

def brier(labels, multi_label):
    return MetricCollection({"brier": Squared()})
'''


@pytest.mark.slow
def test_a_metric_of_a_users_own_has_its_direction(kdlab, tiny, tmp_path, monkeypatch):
    Path("ownmetric.py").write_text(METRIC)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    option = Path("own/metric/brier.yaml")
    option.parent.mkdir(parents=True)
    option.write_text("_target_: ownmetric.brier\n_partial_: true\n")
    words = ["--config-dir", "own", *tiny["finetune"], "metric=brier", "logger=none"]
    code, _, err = kdlab("finetune", *words, "callback.checkpoint.monitor=val/accuracy")
    assert code == 2
    assert "monitor=val/accuracy is not measured in validation: choose one of val/brier, val/loss, primary" in err
    code, _, err = kdlab("finetune", *words, "trainer.max_epochs=2")
    assert code == 0, err
    (run,) = [path.parent for path in Path("outputs/finetune").glob("*/done.json")]
    assert json.loads((run / "done.json").read_text())["higher_is_better"]["brier"] is False
