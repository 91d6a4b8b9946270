"""The grammar of conf/logger and conf/callback: mappings of name to node, that join and can be overridden by name."""

import shutil
from pathlib import Path

import lightning.pytorch as pl
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from kdlab.error import UserError
from kdlab.logger.base import opened

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conf")
    for group in ("logger", "callback"):
        shutil.copytree(CONF / group, folder / group)
    (folder / "root.yaml").write_text("defaults:\n  - callback: [default]\n  - logger: wandb\n  - _self_\n")

    def make(*overrides):
        with initialize_config_dir(str(folder), version_base="1.3"):
            return compose("root", list(overrides))

    return make


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("logger=wandb", ["wandb"]),
        ("logger=many", ["wandb", "tensorboard", "csv"]),
        ("logger=[csv,wandb]", ["csv", "wandb"]),
        ("logger=none", []),
    ],
)
def test_loggers_join(config, override, names):
    assert list(config(override).logger) == names


@pytest.mark.parametrize("override", ["callback=[default,early_stopping]", "+callback=early_stopping"])
def test_a_callback_joins_the_default_ones(config, override):
    plain = list(config().callback)
    assert plain[-1] == "checkpoint"
    assert list(config(override).callback) == [*plain, "early_stopping"]


def test_fields_are_overridden_by_name(config):
    made = config("logger=many", "logger.wandb.project=x", "callback.checkpoint.monitor=val/loss")
    assert (made.logger.wandb.project, made.callback.checkpoint.monitor) == ("x", "val/loss")
    with pytest.raises(Exception, match="projekt"):
        config("logger.wandb.projekt=x")


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "callback").glob("*.yaml")))
def test_every_callback_is_made_from_its_yaml(config, option, tmp_path):
    for node in config(f"callback=[{option}]").callback.values():
        wants_folder = node["_target_"].rsplit(".", 1)[1] in ("Checkpoint", "Progress")
        assert isinstance(instantiate(node, **({"folder": tmp_path} if wants_folder else {})), pl.Callback)


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "logger").glob("*.yaml")))
def test_every_logger_takes_metrics(config, option, info, tmp_path):
    made = {name: instantiate(node, _partial_=True) for name, node in config(f"logger={option}").logger.items()}
    with opened(info(), made) as journal:
        assert len(journal.loggers) == len(made) + 1
        for logger in journal.loggers:
            logger.log_metrics({"train/loss": 1.0, "epoch": 0}, step=0)
            logger.save()
    folder = info().folder
    assert (folder / "history.csv").exists()
    assert (folder / "csv" / "metrics.csv").exists() == ("csv" in made)
    assert bool(list(folder.glob("tensorboard/events*"))) == ("tensorboard" in made)
    assert bool(list(tmp_path.glob("wandb/offline-run-*"))) == ("wandb" in made)


def test_a_missing_tensorboard_is_named(info, monkeypatch):
    from kdlab.logger.tensorboard import tensorboard

    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"kdlab\[tensorboard\]"):
        tensorboard(info())
