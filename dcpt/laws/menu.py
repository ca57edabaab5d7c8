"""Look up laws by name, import a user's own laws, and check their records and formulas."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import InputError, did_you_mean
from dcpt.laws.bounds import broken_bounds_rule, references_of
from dcpt.laws.formulas import LAWS
from dcpt.laws.formulas.sources import EACH_SOURCE, MANY_SOURCES, many_sources
from dcpt.laws.law import Law, Parameter
from dcpt.laws.points.record import Points
from dcpt.laws.solver.autodiff import Dual, slopes_of, value_of

Array = NDArray[np.float64]

SIDES = ("general", "domain", "any")
PHASES = ("constant", "annealed")

TRIAL_POSITIONS = (0.02, 0.3, 0.7)
"""Positions between each parameter's bounds at which a formula is checked. One is close to the
lower bounds, where terms become extreme."""


NAMES = (*LAWS, MANY_SOURCES)
"""Names of the built-in laws. ``many-sources`` is made for the sources of each table."""


def laws_named(
    wanted: str | Law | Iterable[str | Law], sources: Sequence[str] = EACH_SOURCE
) -> dict[str, Law]:
    """Look up laws.

    Args:
        wanted: ``auto`` (all built-in laws that need no table), the name of a law, ``module:name``
            of a user's law, a law record, or several of these.
        sources: The sources that ``many-sources`` is made for.

    Returns:
        Laws by name, in the order given.

    Raises:
        InputError: If a law is unknown, if two laws have the same name, or if a user's record is
            invalid.
    """
    requested = as_list(wanted)
    if not requested:
        raise InputError("no law is given; write auto, or one of " + ", ".join(NAMES))
    laws: list[Law] = []
    for entry in requested:
        if isinstance(entry, Law):
            laws.append(entry)
        else:
            laws += LAWS.values() if entry == "auto" else [_find_law(entry, sources)]
    named: dict[str, Law] = {}
    for law in laws:
        if law.name not in LAWS:
            check_record(law)
        if named.setdefault(law.name, LAWS.get(law.name, law)) is not law:
            raise InputError(f"two laws have the name {law.name}; rename yours")
    return named


def named_by_hand(wanted: str | Law | Iterable[str | Law], laws: Iterable[str]) -> frozenset[str]:
    """The laws that the user named explicitly, so that none of them is left out.

    Args:
        wanted: The same value as in ``laws_named``.
        laws: Names of all laws it stands for.

    Returns:
        All names, or those of the user's own laws where ``auto`` is among the values.
    """
    requested = as_list(wanted)
    if "auto" not in requested:
        return frozenset(laws)
    return frozenset(laws).difference(LAWS, {MANY_SOURCES}.difference(map(str, requested)))


def as_list(wanted: str | Law | Iterable[str | Law]) -> list[str | Law]:
    """The laws that a user asked for, as a list."""
    return [wanted] if isinstance(wanted, str | Law) else list(wanted)


def _find_law(name: str, sources: Sequence[str]) -> Law:
    if name in LAWS:
        return LAWS[name]
    if name == MANY_SOURCES:
        return _of_sources(sources)
    module, colon, attribute = name.partition(":")
    if colon:
        return _import_law(module, attribute)
    raise InputError(
        f"law {name} is not known{did_you_mean(name, NAMES)}; the built-in laws are "
        f"{', '.join(NAMES)}; write a law of your own as module:name"
    )


def _of_sources(sources: Sequence[str]) -> Law:
    if len(sources) < 2 and sources != EACH_SOURCE:
        raise InputError(
            f"law {MANY_SOURCES} reads the shares of at least two sources, and the table has "
            f"those of {', '.join(sources) or 'none'}: add a column share_<channel> for each source"
        )
    return many_sources(sources)


def _import_law(module: str, attribute: str) -> Law:
    working_folder = str(Path.cwd())
    on_path = working_folder in sys.path
    if not on_path:
        # A console script, unlike python -m, does not search the working folder.
        sys.path.insert(0, working_folder)
    try:
        law = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"law {module}:{attribute} cannot be imported ({error}); give the name of a module "
            "that Python can import from this folder, and the name of a dcpt.Law record in it"
        ) from error
    finally:
        if not on_path:
            sys.path.remove(working_folder)
    if not isinstance(law, Law):
        raise InputError(
            f"law {module}:{attribute} has the type {type(law).__name__}; it must be a dcpt.Law "
            "record"
        )
    return law


def check_record(law: Law) -> None:
    """Check the fields of a user's law record.

    Args:
        law: The record.

    Raises:
        InputError: With all problems of the record.
    """
    fields = {field.name for field in dataclasses.fields(Points)} | {"epochs"}
    axes = [*law.axes, *(p.axis for p in law.parameters if p.axis is not None)]
    used = [*law.needs, *law.one_value, *(limits.field for limits in law.holds_on)]
    used += [part for axis in axes for part in axis.split("/")]
    problems = [
        f"{name} is not a field of the points; the fields are {', '.join(sorted(fields))}"
        for name in dict.fromkeys(used)
        if name not in fields
    ]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", law.name) or law.name == "auto":
        problems.append(
            "the name must consist of letters, digits, -, _ and . and must not be auto; write, for "
            "example, my-law"
        )
    if law.side not in SIDES:
        problems.append(f"side is {law.side!r}; write one of {', '.join(SIDES)}")
    if not law.phases or not set(law.phases) <= set(PHASES):
        problems.append(f"phases are {law.phases!r}; write a tuple of {', '.join(PHASES)}")
    if len(set(law.names)) < len(law.parameters) or not law.parameters:
        problems.append("it must have parameters with distinct names")
    problems += [
        f"parameter {parameter.name}: {problem}"
        for parameter in law.parameters
        for problem in _parameter_problems(parameter)
    ]
    if problems:
        raise InputError([f"law {law.name}: {problem}" for problem in problems])


def _parameter_problems(parameter: Parameter) -> Iterator[str]:
    if parameter.role not in ("amplitude", "nonlinear"):
        yield f"role is {parameter.role!r}; write amplitude or nonlinear"
    if parameter.scale not in ("linear", "log"):
        yield f"scale is {parameter.scale!r}; write linear or log"
    low, high = parameter.lower, parameter.upper
    rule = broken_bounds_rule(low, high, parameter.scale)
    if rule is not None:
        yield f"bounds are ({low:g}, {high:g}); {rule}"
    if parameter.scale == "log" and parameter.axis is not None and parameter.neutral <= 0:
        yield f"scale is log and neutral is {parameter.neutral:g}; give a neutral value above 0"


def check_formula(law: Law, points: Points, fixed: Mapping[str, float] | None = None) -> None:
    """Check that a user's formula behaves as its record says, on the points it is fitted to.

    The formula is evaluated at three positions between the bounds of its parameters.

    Args:
        law: The user's law.
        points: M points that the law is fitted to.
        fixed: Fixed values of parameters by name, natural units.

    Raises:
        InputError: If the formula fails, returns another shape than (K, M), or is not linear in an
            amplitude.
    """
    for position in TRIAL_POSITIONS:
        p = {parameter.name: _value_between(parameter, position) for parameter in law.parameters}
        p |= {name: np.array([[value]]) for name, value in (fixed or {}).items()}
        _check_at(law, points, p)


def _check_at(law: Law, points: Points, p: Mapping[str, Array]) -> None:
    """Evaluate a formula at values of shape (1, 1) and check its result.

    It is linear in its amplitudes if doubling them adds each amplitude times its slope.
    """
    ref = references_of(points)
    dual_parameters: dict[str, Any] = {name: Dual(value, {name: 1.0}) for name, value in p.items()}
    try:
        with np.errstate(all="ignore"):
            result = law.loss(points, dual_parameters, ref)
            doubled = law.loss(points, {**p, **{a: 2 * p[a] for a in law.amplitudes}}, ref)
        value = np.broadcast_to(value_of(result), (1, len(points)))
        if value.dtype == object:
            raise TypeError(
                "it returns objects instead of numbers; np.where cannot propagate slopes"
            )
    except InputError as error:
        raise InputError(f"law {law.name}: {error}") from error
    except Exception as error:
        raise InputError(
            f"law {law.name} fails on {len(points)} points ({type(error).__name__}: {error}); its "
            "function takes (points, p, references) with p[name] of shape (K, 1), and returns nats "
            "per token of shape (K, M)"
        ) from error
    expected = value + sum(p[a] * slopes_of(result).get(a, 0.0) for a in law.amplitudes)
    if not np.allclose(doubled, expected, rtol=1e-6, equal_nan=True):
        raise InputError(
            f"law {law.name} is not linear in {', '.join(law.amplitudes)}: a parameter with the "
            "role amplitude must be a factor of its term; give other parameters the role nonlinear"
        )


def _value_between(parameter: Parameter, position: float) -> Array:
    """A value between a parameter's bounds, shape (1, 1); position 0 is the lower bound."""
    if parameter.scale == "log":
        value = parameter.lower * (parameter.upper / parameter.lower) ** position
    else:
        low, high = max(parameter.lower, -10.0), min(parameter.upper, 10.0)
        value = low + position * (high - low)
    return np.array([[value]])
