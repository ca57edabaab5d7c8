"""Which laws are meant: names of the menu, a person's own ``module:name``, or records."""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpt.errors import InputError, nearest
from dcpt.laws.formulas import LAWS
from dcpt.laws.law import Law, Parameter
from dcpt.laws.points.record import Points
from dcpt.laws.solver.autodiff import Dual, slopes_of, value_of
from dcpt.laws.suitable import references_of

Array = NDArray[np.float64]

SIDES = ("general", "domain", "any")
PHASES = ("constant", "annealed")


def laws_named(wanted: str | Law | Iterable[str | Law]) -> dict[str, Law]:
    """Laws by name.

    Args:
        wanted: ``auto`` (the whole menu), a name, ``module:name`` of a person's own record, a
            record, or several of these.

    Raises:
        InputError: If a law is not known, two have one name, or a person's record is wrong.
    """
    many = _as_list(wanted)
    if not many:
        raise InputError("no law is named; give auto, or one of " + ", ".join(LAWS))
    found = [
        law
        for entry in many
        for law in (
            LAWS.values()
            if entry == "auto"
            else [entry if isinstance(entry, Law) else _find(entry)]
        )
    ]
    named: dict[str, Law] = {}
    for law in found:
        if law.name not in LAWS:
            check_record(law)
        if named.setdefault(law.name, LAWS.get(law.name, law)) is not law:
            raise InputError(f"two laws have the name {law.name}; give yours another one")
    return named


def named_by_hand(wanted: str | Law | Iterable[str | Law], laws: Iterable[str]) -> frozenset[str]:
    """Which of these laws a person asked for one by one, so that none of them is left out."""
    return frozenset(laws) - (frozenset(LAWS) if "auto" in _as_list(wanted) else frozenset())


def _as_list(wanted: str | Law | Iterable[str | Law]) -> list[str | Law]:
    return [wanted] if isinstance(wanted, str | Law) else list(wanted)


def _find(name: str) -> Law:
    if name in LAWS:
        return LAWS[name]
    module, colon, attribute = name.partition(":")
    if colon:
        return _import_law(module, attribute)
    raise InputError(
        f"law {name} is not known{nearest(name, LAWS)}; there are {', '.join(LAWS)}; a law of your "
        "own is named module:name"
    )


def _import_law(module: str, attribute: str) -> Law:
    here = str(Path.cwd())
    found = here in sys.path
    if not found:
        sys.path.insert(0, here)  # a console script does not look where it was called
    try:
        law = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"law {module}:{attribute} cannot be imported ({error}); give the module's name as "
            "Python imports it from here, and the name of the dcpt.Law record in it"
        ) from error
    finally:
        if not found:
            sys.path.remove(here)
    if not isinstance(law, Law):
        raise InputError(
            f"law {module}:{attribute} is a {type(law).__name__}; it must be a dcpt.Law record"
        )
    return law


def check_record(law: Law) -> None:
    """Refuse a person's record that says what no law can.

    Args:
        law: The record.

    Raises:
        InputError: All problems together.
    """
    fields = {column.name for column in dataclasses.fields(Points)} | {"epochs"}
    axes = [*law.axes, *(p.axis for p in law.parameters if p.axis is not None)]
    asked = [*law.needs, *law.one_value, *(valid.field for valid in law.holds_on)]
    asked += [part for axis in axes for part in axis.split("/")]
    problems = [
        f"{name} is no field of the points; there are {', '.join(sorted(fields))}"
        for name in dict.fromkeys(asked)
        if name not in fields
    ]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", law.name) or law.name == "auto":
        problems.append("the name must be made of letters, digits, - and ., such as my-law")
    if law.side not in SIDES:
        problems.append(f"side is {law.side!r}; write {', '.join(SIDES)}")
    if not law.phases or not set(law.phases) <= set(PHASES):
        problems.append(f"phases are {law.phases!r}; write a tuple of {', '.join(PHASES)}")
    if len(set(law.names)) < len(law.parameters) or not law.parameters:
        problems.append("it must have parameters, each with a name of its own")
    problems += [
        f"parameter {parameter.name}: {words}"
        for parameter in law.parameters
        for words in _find_faults(parameter)
    ]
    if problems:
        raise InputError([f"law {law.name}: {words}" for words in problems])


def _find_faults(parameter: Parameter) -> Iterator[str]:
    """What is wrong with a parameter of a person's law."""
    if parameter.role not in ("amplitude", "nonlinear"):
        yield f"role is {parameter.role!r}; write amplitude or nonlinear"
    if parameter.scale not in ("linear", "log"):
        yield f"scale is {parameter.scale!r}; write linear or log"
    low, high, neutral = parameter.lower, parameter.upper, parameter.neutral
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        yield f"bounds are ({low:g}, {high:g}); give finite bounds with low <= high"
    elif parameter.scale == "log" and low <= 0:
        yield f"scale is log and the lower bound is {low:g}; give a bound above 0"
    if parameter.scale == "log" and parameter.axis is not None and neutral <= 0:
        yield f"scale is log and neutral is {neutral:g}; give a value above 0"


def check_formula(law: Law, points: Points, fixed: Mapping[str, float] | None = None) -> None:
    """Refuse a formula that does not do on these points what its record says.

    It is tried at three places of the box of its parameters, low ones among them.

    Args:
        law: A person's own law.
        points: The points it will be fitted to.
        fixed: Values of parameters, by name.

    Raises:
        InputError: If it fails, gives another shape, or is not linear in an amplitude.
    """
    for part in (0.02, 0.3, 0.7):
        p = {parameter.name: _inside(parameter, part) for parameter in law.parameters}
        p |= {name: np.array([[value]]) for name, value in (fixed or {}).items()}
        _check_at(law, points, p)


def _check_at(law: Law, points: Points, p: Mapping[str, Array]) -> None:
    ref = references_of(points)
    duals: dict[str, Any] = {name: Dual(value, {name: 1.0}) for name, value in p.items()}
    try:
        with np.errstate(all="ignore"):
            result = law.loss(points, duals, ref)
            twice = law.loss(points, {**p, **{a: 2 * p[a] for a in law.amplitudes}}, ref)
        value = np.broadcast_to(value_of(result), (1, len(points)))
        if value.dtype == object:
            raise TypeError("it gives objects, not numbers; np.where does not know slopes")
    except InputError as error:
        raise InputError(f"law {law.name}: {error}") from error
    except Exception as error:
        raise InputError(
            f"law {law.name} fails on {len(points)} points ({type(error).__name__}: {error}); its "
            "function takes (points, p, references), p[name] of shape (K, 1), and returns nats of "
            "shape (K, M)"
        ) from error
    expected = value + sum(p[a] * slopes_of(result).get(a, 0.0) for a in law.amplitudes)
    if not np.allclose(twice, expected, rtol=1e-6, equal_nan=True):
        raise InputError(
            f"law {law.name} is not linear in {', '.join(law.amplitudes)}: a parameter of the role "
            "amplitude must be a factor of its term; give the others the role nonlinear"
        )


def _inside(parameter: Parameter, part: float) -> Array:
    """A value at a part of the way through a parameter's bounds, shape (1, 1)."""
    if parameter.scale == "log":
        value = parameter.lower * (parameter.upper / parameter.lower) ** part
    else:
        low, high = max(parameter.lower, -10.0), min(parameter.upper, 10.0)
        value = low + part * (high - low)
    return np.array([[value]])
