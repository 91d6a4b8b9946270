"""Config against signatures, and what a loss reads against what a model offers: told before anything is trained."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kdlab.error import UserError
from kdlab.loss.objective import Objective

ONLY = {  # what an annotation says beside "or None": what may then be given
    frozenset({"int"}): "a whole number",
    frozenset({"float"}): "a number",
    frozenset({"int", "float"}): "a number",
    frozenset({"bool"}): "true or false",
}
BESIDE = {"None", "NoneType", "Optional", "Union", "typing", "torch", "Tensor"}


def arguments(target: Callable[..., Any], values: Mapping[str, Any], where: str) -> None:
    """Check config values against the signature of what they configure.

    Args:
        where: the key of the config node.

    Raises:
        UserError: no such argument, or a word where only a number can stand.
    """
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # what is written in C may have no signature
        return
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in values.items():
        if name in parameters:
            kind = ONLY.get(
                frozenset(re.findall(r"\w+", inspect.formatannotation(parameters[name].annotation))) - BESIDE
            )
            whole = not isinstance(value, float) or value.is_integer()
            if kind and (isinstance(value, str) or (kind == "a whole number" and not whole)):
                raise UserError(f"{where}.{name} is '{value}', but must be {kind}")
        elif not open_ended:
            known = ", ".join(known for known, one in parameters.items() if one.kind is not one.VAR_POSITIONAL)
            raise UserError(
                f"{where}.{name} is no argument of {getattr(target, '__name__', target)}, which has {known}"
            )


@contextmanager
def reading(loss: Objective, role: str) -> Iterator[None]:
    """Around the first reading of a model: where it lacks a tap, say which term asked for it.

    Args:
        role: student or teacher.
    """
    try:
        yield
    except UserError as problem:
        wanted = {f"loss.terms.{name}": term.taps[role] for name, term in loss.terms.items()}  # type: ignore[index]
        terms = [name for name, taps in wanted.items() if any(f"'{tap}'" in str(problem) for tap in taps)]
        if not terms:
            raise
        raise UserError(f"{' and '.join(terms)} of the {role}: {problem}") from problem
