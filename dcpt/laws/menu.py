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

from dcpt.errors import InputError, did_you_mean
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
        for one in many
        for law in (
            LAWS.values() if one == "auto" else [one if isinstance(one, Law) else _find(one)]
        )
    ]
    named: dict[str, Law] = {}
    for one in found:
        if one.name not in LAWS:
            check_record(one)
        if named.setdefault(one.name, LAWS.get(one.name, one)) is not one:
            raise InputError(f"two laws have the name {one.name}; give yours another one")
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
        f"law {name} is not known; there are {', '.join(LAWS)}; a law of your own is named "
        f"module:name{did_you_mean(name, LAWS)}"
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
    fields = {one.name for one in dataclasses.fields(Points)} | {"epochs"}
    axes = [*law.axes, *(one.axis for one in law.parameters if one.axis is not None)]
    asked = [*law.needs, *law.one_value, *(one.field for one in law.holds_on)]
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
        f"parameter {one.name}: {words}" for one in law.parameters for words in _wrong(one)
    ]
    if problems:
        raise InputError([f"law {law.name}: {words}" for words in problems])


def _wrong(one: Parameter) -> Iterator[str]:
    """What is wrong with a parameter of a person's law."""
    if one.role not in ("amplitude", "nonlinear"):
        yield f"role is {one.role!r}; write amplitude or nonlinear"
    if one.scale not in ("linear", "log"):
        yield f"scale is {one.scale!r}; write linear or log"
    if not (math.isfinite(one.lower) and math.isfinite(one.upper) and one.lower <= one.upper):
        yield f"bounds are ({one.lower:g}, {one.upper:g}); give finite ones, low <= high"
    elif one.scale == "log" and one.lower <= 0:
        yield f"scale is log and the lower bound {one.lower:g}; give one above 0"
    if one.scale == "log" and one.axis is not None and one.neutral <= 0:
        yield f"scale is log and neutral is {one.neutral:g}; give a value above 0 to hold it at"


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
        p = {one.name: _inside(one, part) for one in law.parameters}
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


def _inside(one: Parameter, part: float) -> Array:
    """A value at a part of the way through a parameter's bounds, shape (1, 1)."""
    if one.scale == "log":
        value = one.lower * (one.upper / one.lower) ** part
    else:
        low, high = max(one.lower, -10.0), min(one.upper, 10.0)
        value = low + part * (high - low)
    return np.array([[value]])
