"""Checks of configs against signatures, and of a loss's taps against a model's, before anything is trained."""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import kdlab.value
from kdlab.error import UserError
from kdlab.file import absent
from kdlab.value import LARGEST, Within

if TYPE_CHECKING:
    from kdlab.loss.objective import Objective

KINDS: dict[str, tuple[type, Within]] = {
    name: get_args(kind)
    for name, kind in vars(kdlab.value).items()
    if len(get_args(kind)) == 2 and isinstance(get_args(kind)[1], Within)
}
WORDS: dict[str, tuple[str, ...]] = {
    name: get_args(kind)[1] for name, kind in vars(kdlab.value).items() if isinstance((*get_args(kind), 0, 0)[1], tuple)
}
NONE = ("None", "NoneType")
SEQUENCES = ("Sequence", "Collection", "Iterable", "list", "List", "tuple", "Tuple", "set", "frozenset")
MAPPINGS = ("Mapping", "dict", "Dict")
MANY = 20  # arguments that a sentence lists
GROUPS = ("Augment", "Select", "Curriculum", "Head")  # classes that a config group makes
SCHEDULED = {  # the range of a "float | Schedule" of a loss, by the name that all of them share
    "alpha": "Fraction | Schedule", "temperature": "Positive | Schedule", "weight": "NonNegative | Schedule",
    "beta": "Fraction | Schedule",
}  # fmt: skip
ANY = 2**63  # whole numbers beyond it fit in no tensor

# what other libraries' signatures do not say, or say wrongly: target's last name -> argument -> annotation
LIBRARY: dict[str, dict[str, str]] = {
    "Trainer": {
        "accelerator": "str",
        "devices": "Literal['auto'] | Count | Literal[-1] | list[Whole]",
        "num_nodes": "Count",
        "precision": "Literal['32-true', 'bf16-mixed', '16-mixed', 'bf16-true', '16-true', '64-true', "
        "'transformer-engine', 'transformer-engine-float16', '32', '64', '16', 'bf16'] | Literal[16, 32, 64]",
        "max_epochs": "Count | Literal[-1] | None",
        "max_steps": "Whole | Literal[-1]",
        "gradient_clip_val": "NonNegative | None",
        "accumulate_grad_batches": "Count",
        "val_check_interval": "Part | Count",
        "check_val_every_n_epoch": "Count | None",
        "log_every_n_steps": "Count",
        "limit_train_batches": "Part | Count",
        "limit_val_batches": "Fraction | Whole",
        "limit_test_batches": "Part | Count",
        "num_sanity_val_steps": "Whole | Literal[-1]",
        "use_distributed_sampler": "bool",
        "deterministic": "bool | Literal['warn']",
        "profiler": "Literal['simple', 'advanced', 'pytorch'] | None",
        "detect_anomaly": "bool",
    },
    "EarlyStopping": {
        "monitor": "str", "mode": "Literal['max', 'min']", "patience": "Whole", "min_delta": "NonNegative",
    },
    "LearningRateMonitor": {"logging_interval": "Literal['step', 'epoch'] | None"},
    "Adam": {"lr": "NonNegative", "weight_decay": "NonNegative", "betas": "list[Share]", "eps": "Positive"},
    "AdamW": {"lr": "NonNegative", "weight_decay": "NonNegative", "betas": "list[Share]", "eps": "Positive"},
    "SGD": {"lr": "NonNegative", "weight_decay": "NonNegative", "momentum": "NonNegative", "nesterov": "bool"},
    "Adafactor": {"lr": "NonNegative", "weight_decay": "NonNegative"},
}  # fmt: skip


def arguments(target: Callable[..., Any], values: Mapping[str, Any], where: str) -> None:
    """Check config values against the signature of what they configure.

    Args:
        where: the key of the config node.

    Raises:
        UserError: no such argument, or a value that cannot stand there.
    """
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # what is written in C may have no signature
        return
    open_ended = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    allowed = {
        name: "" if one.annotation is one.empty else inspect.formatannotation(one.annotation)
        for name, one in parameters.items()
        if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    }
    name = f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}"
    written(name, allowed, open_ended, values, where)


def written(
    target: str, parameters: Mapping[str, str], open_ended: bool, values: Mapping[str, Any], where: str
) -> None:
    """The same for a signature as it is written.

    Args:
        target: the dotted path of what is configured.
        parameters: argument -> its annotation.
        open_ended: whether there may be others.
    """
    own, short = library(target), target.rpartition(".")[2]
    for name, value in values.items():
        if name in parameters or (open_ended and name in own):
            allowed = own.get(name) or parameters[name]
            if allowed == "float | Schedule" and target.startswith("kdlab.loss."):
                allowed = SCHEDULED.get(name, allowed)
            if must := fault(allowed, value):
                if allowed.startswith("File") and isinstance(value, str) and value:
                    raise UserError(f"{where}.{name}: {absent(Path(value))}")
                raise UserError(f"{where}.{name} is {shown(value)}, but must be {must}")
        elif not open_ended:
            known = list(parameters)
            found = get_close_matches(name, known, n=1) or [one for one in known if name in one.split("_")][:1]
            meant = f" Did you mean {where}.{found[0]}?" if found else ""
            more = ", …" if len(known) > MANY else ""
            raise UserError(
                f"{where}.{name} is no argument of {short}, which has {', '.join(known[:MANY])}{more}.{meant}"
            )


def library(target: str) -> Mapping[str, str]:
    """What is known here of the arguments of another library's class, by its dotted path."""
    room, _, short = target.rpartition(".")
    return LIBRARY.get(short, {}) if room.split(".")[0] in ("torch", "lightning") else {}


def fault(annotation: str, value: Any) -> str:
    """What a value must be by an annotation, where it is not; "" where it may stand there, or nothing is known.

    Example:
        >>> fault("Count | None", 0)
        'a whole number from 1 up, or null'
        >>> fault("Fraction", 0.5), fault("Tensor | float", "hot")
        ('', '')
    """
    try:
        tree = ast.parse(annotation.strip(), mode="eval").body
    except SyntaxError:
        return ""
    if isinstance(value, Mapping) and "_target_" in value:
        return ""  # what it makes is looked at where it is made
    faults = [_fault(one, value) for one in _alternatives(tree)]
    if not faults or any(one is None for one in faults):
        return ""
    unique = [one for one in dict.fromkeys(map(str, faults)) if one != "null"]
    return ", or ".join(unique + ["null"] * ("null" in faults))


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    """The parts of a union, however it is written."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    elif isinstance(node, ast.Subscript) and _name(node.value) in ("Optional", "Union"):
        for part in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
            yield from _alternatives(part)
        if _name(node.value) == "Optional":
            yield ast.Constant(None)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # a forward reference
        yield from _alternatives(ast.parse(node.value, mode="eval").body)
    else:
        yield node


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else str(getattr(node, "value", ""))


def _fault(node: ast.expr, value: Any) -> str | None:
    """What one alternative allows; None where it allows the value, or where that is not known."""
    name = _name(node.value) if isinstance(node, ast.Subscript) else _name(node)
    inside = node.slice if isinstance(node, ast.Subscript) else None
    if name in NONE:
        return None if value is None else "null"
    if name == "Literal" and inside is not None:
        allowed = [ast.literal_eval(one) for one in (inside.elts if isinstance(inside, ast.Tuple) else [inside])]
        return None if any(type(one) is type(value) and one == value for one in allowed) else _listed(allowed)
    if name == "bool":
        return None if isinstance(value, bool) else "true or false"
    if name in ("int", "float"):
        return _number(int if name == "int" else float, Within(), value)
    if name in KINDS:
        return _number(*KINDS[name], value)
    if name == "Schedule":
        return "a schedule"
    if name in WORDS:
        return None if value in WORDS[name] else _listed(WORDS[name])
    if name == "File":
        return _file(value)
    if name == "Project":
        named = isinstance(value, str) and re.fullmatch(r"[^/\\#?%:]{1,128}", value)
        return None if named else "a name of at most 128 characters without / \\ # ? % and :"
    if name == "Label":
        label = isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""
        return None if label else "a name (['no','yes'] in quotes, of which YAML makes false and true)"
    if name == "str":
        return None if isinstance(value, str) and value else "a word (in quotes where it looks like a number)"
    if name in SEQUENCES:
        return _sequence(inside, value)
    if name in MAPPINGS:
        return None if isinstance(value, Mapping) else "a mapping such as {name: value}"
    return "an option of its group" if name in GROUPS and not isinstance(value, list | tuple | Mapping) else None


def _file(value: Any) -> str | None:
    there = isinstance(value, str | int | float) and (":" in str(value) or Path(str(value)).expanduser().exists())
    return None if there and value != "" else "a file that is there"


def _number(kind: type, within: Within, value: Any) -> str | None:
    plain = str(within) == "from -inf up"
    must = ("a whole number" if kind is int else "a number") + ("" if plain else f" {within}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return must
    if kind is int and (int(value) != value or abs(value) >= ANY):
        return must
    if value > within.high == LARGEST:
        return f"{must} to {LARGEST:,}"
    return None if value in within else must


def _sequence(inside: ast.expr | None, value: Any) -> str | None:
    if not isinstance(value, list | tuple):
        return "a list such as [A, B]"
    if inside is None:
        return None
    kind = inside.elts[0] if isinstance(inside, ast.Tuple) else inside
    for one in value:
        if must := fault(ast.unparse(kind), one):
            return f"a list with {must} at each place"
    return None


def _listed(allowed: Sequence[Any]) -> str:
    return allowed[0] if len(allowed) == 1 else f"one of {', '.join(map(str, allowed))}"


def shown(value: Any) -> str:
    """A value as the command line has it.

    Example:
        >>> print(shown(None), shown("hot"), shown(True), shown(""))
        null 'hot' true empty
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if value == "":
        return "empty"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


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
