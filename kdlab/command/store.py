"""`kdlab store`: lists the stored outputs of teachers and frozen layers, verifies them, or removes the unused ones."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdlab.error import UserError
from kdlab.store.store import opened, remove, size_bytes, unit_of, unused_days
from kdlab.text import one_line

ACTIONS = ("list", "verify", "prune")


def main(cfg: DictConfig) -> None:
    """Carry out ``action``. Errors: UserError where it is unknown, or ``verify`` found damage."""
    options = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(options, dict)
    run(**{str(key): value for key, value in options.items()})


def run(outputs: str, action: str, select: str | int | list[str | int] | None, unused_days: float | None) -> None:
    """The same with plain arguments; they are explained in conf/store.yaml."""
    if action not in ACTIONS:
        raise UserError(f"action={action} is not known: choose one of {', '.join(ACTIONS)}.")
    root = Path(outputs) / "store"
    globs = ["*"] if select is None else [str(one) for one in (select if isinstance(select, list) else [select])]
    found = [path for path in stores(root) if any(fnmatch(name(path), glob) for glob in globs)]
    if not found:
        print(f"no store in {root.absolute()}" + (f" fits select={select}" if select else ""))
        return
    problems = {path: "unfinished" if path.name.startswith(".") else "" for path in found}
    if action != "list":
        problems |= {path: damage(path) for path in found if not problems[path]}
    if action == "prune":
        gone = [path for path in found if problems[path] or select or old(path, unused_days)]
        sizes = {path: size_bytes(path) for path in gone}
        freed = [size for path, size in sizes.items() if remove(path)]
        busy = f"; {len(gone) - len(freed)} are in use" if len(freed) < len(gone) else ""
        print(f"removed {len(freed)} of {len(found)} stores, {sum(freed) / 1e6:,.1f} MB{busy}")
        return
    show(found, problems)
    broken = [name(path) for path, problem in problems.items() if problem and not path.name.startswith(".")]
    if broken:
        raise UserError(f"{', '.join(broken)} are damaged; a run that needs them builds them again, or action=prune")


def stores(root: Path) -> list[Path]:
    """Every store below ``root``, and what interrupted builds left."""
    folders = [path for path in root.glob("*") if path.is_dir() and (path / "meta.json").is_file()]
    return sorted(folders) + sorted(path for path in root.glob(".*.part") if path.is_dir())


def name(path: Path) -> str:
    return path.name.removeprefix(".").removesuffix(".part")


def old(path: Path, days: float | None) -> bool:
    return days is not None and unused_days(path) >= days


def damage(path: Path) -> str:
    """What is wrong with a store, or nothing."""
    try:
        opened(path)
    except UserError as problem:
        return str(problem)
    return ""


def show(found: list[Path], problems: dict[Path, str]) -> None:
    table = Table(title=f"{len(found)} stores, {sum(map(size_bytes, found)) / 1e6:,.1f} MB")
    for title in ("key", "of", "holds", "rows", "MB", "unused for"):
        table.add_column(title, justify="right" if title in ("rows", "MB") else "left")
    for path in found:
        cells = (name(path), *described(path, problems[path]), f"{size_bytes(path) / 1e6:,.1f}", age(path))
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    Console().print(table)


def described(path: Path, problem: str) -> tuple[str, str, str]:
    """What a store is of, what it holds, and how many rows; of a damaged one, that it is."""
    if problem:
        return problem, "", ""
    try:
        meta = opened(path).meta
    except UserError as damaged:
        return str(damaged), "", ""
    held = ", ".join(f"{tap} {known['dtype']}" for tap, known in meta["arrays"].items())
    if "top_k_bytes" in meta:
        kept = meta["packing"]["k"] if "packing" in meta else meta["top_k"]
        held = f"the {kept} largest {held}, {meta['top_k_bytes']} bytes a {unit_of(meta['arrays']['logits']['kind'])}"
    return str(meta.get("of", "")), held, f"{meta['rows']:,}"


def age(path: Path) -> str:
    days = unused_days(path)
    return f"{days:.0f} days" if days >= 1 else f"{days * 24:.0f} hours"
