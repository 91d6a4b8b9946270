"""Checks of a command line within a second: before torch is imported, and before a folder is made for the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdlab.config import present, unchosen
from kdlab.config.check import fault, shown, written
from kdlab.config.identity import MODELS, OPEN_DATA
from kdlab.config.kind import ROOT
from kdlab.config.near import child, hint, leaves, near, near_keys, value_at
from kdlab.config.node import no_value
from kdlab.config.option import Menu, menu, place, roots
from kdlab.config.several import in_shell, several
from kdlab.config.signature import signature
from kdlab.datamodule.processor.key import PROCESSORS
from kdlab.error import UserError

WHICH = ("run", "recipe", "model", "generations", "members", "peers")  # say which teacher; the rest, how it is read
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx", ".gz")  # extensions of files of rows
NAMED = ("callback", "logger", "transform", "metric")  # mappings of nodes by name


def look(
    verb: str,
    words: Sequence[str],
    conf: Path,
    own: Path | None = None,
    values: bool = True,
    multirun: bool = False,
    doctor: bool = False,
) -> None:
    """Look at a command line before it is run.

    Args:
        verb: the command, or the name of another config beside its own.
        words: its overrides; those that sweep are left to the points of the sweep.
        conf: the folder with the commands' configs.
        own: a folder with the user's own groups.
        values: whether the values are looked at, not the keys alone.
        multirun: whether it may sweep; a config can say so too.
        doctor: whether `kdlab doctor` comes before it.

    Raises:
        UserError: what is wrong with it.
    """
    if own is not None and not own.is_dir():
        raise UserError(f"--config-dir {own}: there is no such folder")
    parsed = [parse(word) for word in words]
    single = [one for one in parsed if not one.is_sweep_override()]
    try:
        offer = menu(conf, verb, [str(one.input_line) for one in single], own)
    except (HydraException, OmegaConfBaseException, ValueError) as problem:
        if mistake := diagnose(verb, parsed, conf, own):
            raise UserError(mistake) from problem
        raise
    swept = next((one for one in parsed if one.is_sweep_override()), None)
    if swept is not None and not multirun and offer.cfg.hydra.mode != RunMode.MULTIRUN:
        line = ["kdlab", *["doctor"] * doctor, verb, "-m", *([] if own is None else [f"--config-dir={own}"]), *words]
        raise UserError(several(swept, line))
    check(verb, single, offer.cfg, offer.chosen, conf, values and len(single) == len(parsed))


def check(
    verb: str, words: Sequence[Override], cfg: DictConfig, chosen: Mapping[str, str], conf: Path, values: bool = True
) -> None:
    """Look at a composed config.

    Args:
        words: the overrides it was composed with.
        chosen: key of a group -> the chosen option.

    Raises:
        UserError: a key that nothing reads, an option without a place, or a value that cannot stand where it stands.
    """
    for word in words:
        if problem := _added(verb, word, cfg, conf):
            raise UserError(problem)
    for key, option in chosen.items():
        if problem := _place(key, option, cfg, conf):
            raise UserError(problem)
    unchosen.check(cfg, NAMED)
    if values:
        for key in leaves(cfg):
            node = value_at(cfg, key)  # None below a mapping whose keys are numbers, such as datamodule.label_map
            if node is not None and node._is_missing() and key.rpartition(".")[2] not in PROCESSORS and "." in key:
                raise UserError(no_value(key))
        for key, kind in ROOT.items():
            node = value_at(cfg, key)
            if node is None or node._is_interpolation():
                continue
            if node._is_missing() and key.rpartition(".")[2] in PROCESSORS:
                continue  # the model's own, where a run is measured on other data
            if node._is_missing():
                raise UserError(f"{key} has no value; `kdlab help {key}` says what it is: kdlab {verb} {key}=…")
            if must := fault(kind, value := _plain(node)):
                raise UserError(f"{key} is {shown(value)}, but must be {must}")
        for where, node in nodes(cfg):
            _arguments(where, node)
        present.check(cfg)


@lru_cache(4096)
def parse(word: str) -> Override:
    """One override.

    Raises:
        UserError: it cannot be read; the sentence says how to quote it.
    """
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as problem:
        key, equals, value = word.partition("=")
        if not equals:
            table = Path(word).suffix.lower() in TABLES or Path(word).is_file()
            hint = f"; for a table of your own: datamodule=table datamodule.path={word}" if table else ""
            raise UserError(f"'{word}' is no override: write KEY=VALUE, or GROUP=OPTION{hint}") from problem
        quoted = _quoted(key, value)
        advice = f"write {in_shell(quoted)}" if quoted else "close its brackets and quotes"
        raise UserError(f"{word} cannot be read ({' '.join(str(problem).split())}): {advice}") from problem


def _quoted(key: str, value: str) -> str:
    """The same override with quotes, where that can be read; else ""."""
    listed = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else []
    for text in ("[" + ",".join(_in_quotes(one) for one in listed) + "]" if listed else "", _in_quotes(value)):
        try:
            OverridesParser.create().parse_override(f"{key}={text}")
        except HydraException:
            continue
        if text and not (value[:1] in "[{" and text[:1] not in "[{"):
            return f"{key}={text}"
    return ""


def _in_quotes(value: str) -> str:
    text = value.strip()
    return text if text[:1] in ("'", '"') else f"'{text}'" if "'" not in text else '"' + text.replace('"', '\\"') + '"'


def diagnose(verb: str, words: Sequence[Override], conf: Path, own: Path | None) -> str:
    """Why a command line does not compose, in one sentence; "" where that is not known."""
    offer = menu(conf, verb, [], own)
    groups = [word for word in words if _is_group(word, offer)]
    for word in words:
        if problem := _table(verb, word, offer) or _option(verb, word, offer):
            return problem
    try:
        offer = menu(conf, verb, [str(word.input_line) for word in groups if not word.is_sweep_override()], own)
    except (HydraException, OmegaConfBaseException):
        return ""
    for word in words:
        key = word.key_or_group
        if word not in groups and not word.is_add() and not word.is_force_add() and not key.startswith("hydra"):
            node = value_at(offer.cfg, key)
            if node is None and key.split(".")[0] in [one.key_or_group for one in groups if one.is_sweep_override()]:
                return (
                    f"'{key}' belongs to the options that the sweep chooses: write {key}='choice({word.value()})', so "
                    "that it is set in each point and not before"
                )
            if node is None:
                return _unknown(verb, key, offer)
            if isinstance(node, DictConfig) and isinstance(word.value(), str | int | float):
                return _no_value(key, str(word.value()), offer.chosen, offer.options)
    return ""


def _is_group(word: Override, offer: Menu) -> bool:
    return word.package is not None or word.key_or_group in offer.options or word.get_key_element() in offer.chosen


def _table(verb: str, word: Override, offer: Menu) -> str:
    """The right keys for a table that is given to a key that does not exist; "" where it is no such word."""
    key, value = word.key_or_group, word.value()
    if "." in key or _is_group(word, offer) or word.is_add() or word.is_force_add() or not isinstance(value, str):
        return ""
    table = Path(value).suffix.lower() in TABLES and Path(value).is_file()
    if not table or value_at(offer.cfg, key) is not None or "table" not in offer.options.get("datamodule", ()):
        return ""
    return f"There is no setting '{key}' in `kdlab {verb}`; for a table: datamodule=table datamodule.path={value}"


def _option(verb: str, word: Override, offer: Menu) -> str:
    """What is wrong with the choice of an option; "" where nothing is, or where the word chooses none."""
    group, key = word.key_or_group, word.get_key_element().lstrip("+~")
    if group not in offer.options:
        there = word.package is not None or (value_at(offer.cfg, group) is None and "." not in group)
        names = [*offer.chosen, *offer.more]
        if there and not word.is_add() and (found := near(group, names)):
            return f"There is no setting or group '{group}'.{hint(found)} `kdlab {verb} --help` lists the groups."
        return ""
    if word.is_delete():
        return ""
    value: Any = word.value()
    if value is None:
        return f"{key}=null chooses nothing; options of {group}: {', '.join(offer.options[group])}."
    for name in list(value.list) if isinstance(value, ChoiceSweep) else [value]:
        wrong = [one for one in (name if isinstance(name, list) else [name]) if one is not None]
        for one in wrong:
            if str(one) not in offer.options[group]:
                found = [f"{key}={name}" for name in near(str(one), offer.options[group])]
                return f"There is no {key}={one}.{hint(found)} Options of {group}: {', '.join(offer.options[group])}."
    if not word.is_add() and word.package is None and group not in offer.chosen and value_at(offer.cfg, group) is None:
        roles = [one for one in offer.chosen if one.startswith(f"{group}@")]
        name = f"={value}" if isinstance(value, str) else ""
        if roles:
            return f"`kdlab {verb}` has more than one {group}.{hint([f'{one}{name}' for one in roles])}"
        return f"`kdlab {verb}` has no group '{group}'; `kdlab {verb} --help` lists its groups."
    return ""


def _unknown(verb: str, key: str, offer: Menu) -> str:
    found = near_keys(key, leaves(offer.cfg))
    top = key.split(".")[0]
    if not found and "." not in key:
        found = near(key, list(offer.chosen))
    if options := _having(key, offer):
        plain = [*OPEN_DATA, *options]  # a table before what is special
        options = sorted(options, key=plain.index)
        found = [f"{top}={option} {key}=…" for option in options[:3]]
    of = f" in `kdlab {verb}`" if value_at(offer.cfg, top) is None or "." not in key else f" with {_chosen(top, offer)}"
    return f"There is no setting '{key}'{of}.{hint(found)} `kdlab {verb} --help` lists all settings."


def _having(key: str, offer: Menu) -> list[str]:
    """The options of a group that have a setting which the chosen one has not, such as ``table`` for its ``path``."""
    top, _, rest = key.partition(".")
    if not rest or top not in offer.options:
        return []
    folders = [folder for source in offer.cfg.hydra.runtime.config_sources if (folder := place(source)) is not None]
    found = []
    for option in offer.options[top]:
        files = [file for folder in folders if (file := folder / top / f"{option}.yaml").is_file()]
        held = yaml.safe_load(files[0].read_text(encoding="utf-8")) if files else None
        if isinstance(held, dict) and rest.split(".")[0] in held:
            found.append(option)
    return found


def _chosen(top: str, offer: Menu) -> str:
    return next((f"{key}={name}" for key, name in offer.chosen.items() if key.split("@")[-1] == top), f"this {top}")


def _no_value(key: str, value: str, chosen: Mapping[str, str], options: Mapping[str, Sequence[str]]) -> str:
    """A word where a group of settings stands."""
    for role in chosen:
        group, _, place = role.partition("@")
        if place == key:
            known = options.get(group, [])
            found = [f"{role}={name}" for name in ([value] if value in known else near(value, known))]
            return f"'{key}' is a group of settings, whose option is chosen by {role}.{hint(found)}"
    return f"'{key}' is a group of settings, not one: set them one by one, such as {key}.NAME=VALUE."


def _added(verb: str, word: Override, cfg: DictConfig, conf: Path) -> str:
    """Why nothing would read a key that is added with +; "" where something does."""
    if not (word.is_add() or word.is_force_add()) or word.package is not None or "/" in word.key_or_group:
        return ""
    key = word.key_or_group
    top, _, rest = key.partition(".")
    known = roots(conf, verb)
    if top == "hydra" or (not rest and top in known):
        return ""
    sign = "++" if word.is_force_add() else "+"
    if top not in known:
        others = [one for one in leaves(cfg) if one.split(".")[0] in known]
        found = near_keys(key, others)
        return f"Nothing reads {sign}{key}: `kdlab {verb}` has no such setting.{hint(found)}"
    parent, _, name = key.rpartition(".")
    held = value_at(cfg, parent)
    if not isinstance(held, DictConfig) or held._is_none() or "_target_" in held:
        return ""  # an argument, which is looked at with the others
    beside = [child(held, one) for one in held if str(one) != name]
    if any(isinstance(one, DictConfig) and "_target_" in one for one in beside) or parent in NAMED:
        node = child(held, name)
        if isinstance(node, DictConfig) and (node._is_none() or "_target_" in node):
            return ""
        return f"{key} must be a mapping with a _target_, as the others in {parent} are: `kdlab help {parent}`."
    if beside:
        found = near(name, [str(one) for one in held if str(one) != name])
        return (
            f"Nothing reads {sign}{key}: {parent} has {', '.join(str(one) for one in held if str(one) != name)}."
            + hint([f"{parent}.{one}" for one in found])
        )
    return ""


def _place(key: str, option: str, cfg: DictConfig, conf: Path) -> str:
    """Why the option of a group is not in its place; "" where it is."""
    group, _, package = key.partition("@")
    place = package or group.replace("/", ".")
    node = value_at(cfg, place)
    if option in ("", "null") or node is None or isinstance(node, DictConfig):
        return ""
    value = str(node._value())
    if node._is_interpolation():
        return ""
    options = {group: sorted(path.stem for path in (conf / group).glob("*.yaml"))}
    return _no_value(place, value, {key: option}, options)


def nodes(cfg: DictConfig, where: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every node of a config that configures something, by key."""
    for key in cfg:
        node = child(cfg, key)
        if str(key) == "hydra" or not isinstance(node, DictConfig):
            continue
        if node._is_none() or node._is_missing() or node._is_interpolation():
            continue
        place = f"{where}.{key!s}" if where else str(key)
        if "_target_" in node:
            yield place, node
        yield from nodes(node, place)


def _arguments(where: str, node: DictConfig) -> None:
    target = child(node, "_target_")
    found = signature(str(target._value())) if target is not None else None
    if found is None:
        return
    values: dict[str, Any] = {}
    for key in node:
        name = str(key)
        one = child(node, key)
        skipped = name.startswith("_") or one._is_missing() or one._is_interpolation()
        if not skipped and not ("teacher" in where.split(".") and name in WHICH):
            values[name] = _plain(one)
    places = where.split(".")
    if (places[-1] in MODELS or "peers" in places) and "lr" not in found.parameters:
        rate = values.pop("lr", 0.0)  # what an optimizer takes where none is given
        if must := fault("NonNegative", rate):
            raise UserError(f"{where}.lr is {shown(rate)}, but must be {must}")
    written(str(target._value()), found.parameters, found.open, values, where)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node._value()
