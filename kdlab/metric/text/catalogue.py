"""The scores of this folder by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import isabstract
from pathlib import Path

from kdlab.error import UserError
from kdlab.metric.text.base import TextScore


@cache
def scores() -> dict[str, type[TextScore]]:
    """The class of each score, by the name of its file."""
    found: dict[str, type[TextScore]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = import_module(f"{__package__}.{path.stem}")
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, TextScore) and one.__module__ == module.__name__:
                found |= {} if isabstract(one) else {path.stem: one}
    return found


def chosen(names: Sequence[str]) -> dict[str, TextScore]:
    """The scores of these names, in their order.

    Raises:
        UserError: an unknown name, the same one twice, none at all, or a library that is not installed.

    Example:
        >>> list(chosen(["exact_match", "repetition"]))
        ['exact_match', 'repetition']
    """
    known = scores()
    for name in names:
        if name not in known:
            raise UserError(f"metric.generation.scores has '{name}': choose among {', '.join(known)}")
        package, module = known[name].package, known[name].module
        if package is not None and find_spec(module) is None:
            raise UserError(
                f"metric.generation.scores has {name}, which needs the package {package}, which is not installed: run "
                "`pip install 'kdlab[text]'`, or choose scores without a library: "
                + ", ".join(other for other, one in known.items() if one.package is None)
            )
    if not names or len(set(names)) < len(names):
        problem = "is empty" if not names else "names a score twice"
        raise UserError(f"metric.generation.scores {problem}: list each of the scores that you want once")
    return {name: known[name]() for name in names}
