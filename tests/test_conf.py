"""Every option of every group, enumerated from disk: it composes, it configures what it says, and it is explained."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from verbs import VERBS

from kdlab.config import conf
from kdlab.config.early import WHICH
from kdlab.help.comment import comments

ROOT = conf()
TRAINING = ("finetune", "distill")
OPTIONS = sorted(
    path.relative_to(ROOT) for path in ROOT.rglob("*.yaml") if path.parent != ROOT and "hydra" not in path.parts
)
ROLES = {"model": {"finetune": "model", "distill": "model@student"}}
# what commands give at call time, by group
GIVEN = {
    "model": {"labels", "tokenizer", "teacher", "examples", "channels", "size"},
    "module": {"parts"},
    "teacher": {"model", "trained", "task", "data", "taps", "store", "members", "peers", "student"},
    "metric": {"labels", "multi_label"},
    "optimizer": {"params"},
    "penalty": {"model"},
    "callback": {"folder"},
    "logger": {"info"},
    "task": {"in_features", "labels"},
}


@pytest.fixture(scope="module", autouse=True)
def hydra():
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        yield


def overrides(option: Path) -> list[tuple[str, str]]:
    """(verb, override) for every root that the option can be mounted in."""
    group, name = str(option.parent), option.stem
    if group in ("loss/term", "schedule"):
        where = {"loss/term": "loss.terms.extra", "schedule": "loss.alpha"}[group]
        return [("distill", f"+{group}@{where}={name}")]
    if group == "suite":
        return [("evaluate", f"{group}={name} run=ID")]
    if group == "metric/perturbation":
        chosen = f"+{group}@metric.robustness.perturbations.extra={name}"
        return [("distill", f"metric=[classification,fidelity,robustness] {chosen}")]
    if group == "experiment":
        return [(option_verb(option), f"experiment={name}")]
    found = []
    for verb in TRAINING:
        role = ROLES.get(group, {}).get(verb, group)
        defaults = OmegaConf.load(ROOT / f"{verb}.yaml").defaults
        if any(isinstance(entry, DictConfig) and role in entry for entry in defaults):
            found.append((verb, f"{role}={name}"))
    if group.startswith("task/"):
        found.append(("distill", f"{group}={name}"))
    if group in ("datamodule/augment", "datamodule/select", "datamodule/curriculum"):
        found.append(("distill", f"{group}={name}"))
    if group == "format":
        found.append(("export", f"{group}={name}"))
    if group == "teacher/combine":
        found.append(("distill", f"teacher=ensemble {group}={name}"))
    return found


def option_verb(option: Path) -> str:
    lines = [line for line in (ROOT / option).read_text().splitlines() if "kdlab " in line]
    assert lines, f"{option}: the first lines must hold the command, `kdlab VERB experiment={option.stem}`"
    return lines[0].split("kdlab ")[1].split()[0]


CASES = [(option, verb, override) for option in OPTIONS for verb, override in overrides(option)]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_an_option_can_be_chosen_and_says_what_it_is(option):
    assert overrides(option), f"no root config has the group of {option}"
    comments = [line for line in (ROOT / option).read_text().splitlines()[:3] if line.startswith("# ")]
    assert [line for line in comments if not line.startswith("# @package")], f"{option}: say in a comment what it is"


FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.yaml") if path.parent.name != "help")
SETTING = ("experiment", "debug")  # set keys that other files explain


@pytest.mark.parametrize("file", [one for one in FILES if one.parts[0] not in SETTING], ids=str)
def test_every_key_has_a_comment(file):
    plain = OmegaConf.load(ROOT / file)
    silent = [key for key, said in comments(ROOT / file).items() if not said and not is_node(plain, key)]
    assert not silent, f"{file}: say beside each key what it does"


def is_node(plain, key: str) -> bool:
    node = plain
    for name in key.split("."):
        node = node._get_node(name)
    return OmegaConf.is_dict(node)


@pytest.mark.sampled(20, tried=112)
@pytest.mark.parametrize(("option", "verb", "override"), CASES, ids=[f"{v} {o}" for _, v, o in CASES])
def test_an_option_composes_and_every_key_is_an_argument_of_what_it_configures(option, verb, override):
    cfg = compose(verb, overrides=override.split())
    targets = list(nodes(cfg))
    assert targets
    for path, node in targets:
        check(path, node, loose=path.split(".")[0])


def nodes(cfg, path=""):
    """Every node with a ``_target_``, and its dotted path."""
    if OmegaConf.is_dict(cfg):
        if "_target_" in cfg:
            yield path, cfg
        for key in cfg:
            if not OmegaConf.is_missing(cfg, key) and not OmegaConf.is_interpolation(cfg, key):
                yield from nodes(cfg[key], f"{path}.{key}".lstrip("."))


def check(path: str, node: DictConfig, loose: str) -> None:
    target = get_object(node._target_)
    parameters = inspect.signature(target).parameters
    keys = {str(key) for key in node if not str(key).startswith("_")}
    if path == "teacher":
        keys -= set(WHICH)
    if get_object(node._target_).__module__.startswith("kdlab.model."):
        keys -= {"lr"}  # what an optimizer takes where none is given
    taken = {name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
    assert keys <= taken, f"{path} sets {sorted(keys - taken)}, which {node._target_} does not take"
    role = {"student": "model", "teacher.model": "model"}.get(path, loose)
    given = GIVEN.get("model" if path.endswith(".inner") else role, set())
    needed = {
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    assert needed <= keys | given, f"{node._target_} needs {sorted(needed - keys - given)}, which {path} does not set"


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.parent.name not in ("experiment", "debug")], ids=str)
def test_the_path_in_config_is_the_path_in_code(option):
    node = OmegaConf.load(ROOT / option)
    group = str(option.parent).replace("/", ".")
    for path, target in [(path, node._target_) for path, node in nodes(node)]:
        if target.startswith("kdlab.") and not path:
            room = {"scheduler": "schedule", "loss.term": "loss", "peft": "transform"}.get(group, group)
            assert target.startswith(f"kdlab.{room}."), f"{option} configures {target}, which lives in another room"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_root_config_whose_keys_are_all_there(verb):
    own = {str(key) for key in OmegaConf.load(ROOT / f"{verb}.yaml")} - {"defaults", "hydra"}
    assert own and own <= {str(key) for key in compose(verb)}


@pytest.mark.parametrize("verb", TRAINING)
def test_a_typo_in_an_override_fails(verb):
    with pytest.raises(Exception, match="tempratur"):
        compose(verb, overrides=["optimizer.tempratur=1"])


@pytest.mark.sampled(10, tried="all")
@pytest.mark.parametrize("debug", ["one_batch", "overfit", "profile"])
@pytest.mark.parametrize("experiment", sorted(path.stem for path in (ROOT / "experiment").glob("*.yaml")))
def test_debugging_trains_by_epochs_and_validates_whatever_the_experiment_does(debug, experiment):
    verb = option_verb(Path("experiment", f"{experiment}.yaml"))
    trainer = compose(verb, [f"experiment={experiment}", f"debug={debug}"]).trainer
    assert (trainer.max_steps, trainer.val_check_interval, trainer.check_val_every_n_epoch) == (-1, 1.0, 1)
    assert trainer.max_epochs > 0
