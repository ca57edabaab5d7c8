"""Which laws are meant: names of the menu, a person's own ``module:name``, or records."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from dcpt.errors import InputError
from dcpt.laws.carry import references_of
from dcpt.laws.duals import Dual, slopes_of, value_of
from dcpt.laws.formulas import LAWS
from dcpt.laws.law import Law
from dcpt.laws.points import Points


def laws_named(wanted: str | Law | Iterable[str | Law], own: Iterable[Law] = ()) -> dict[str, Law]:
    """Laws by name.

    Args:
        wanted: ``auto`` (the whole menu), a name, ``module:name`` of a person's own record, a
            record, or several of these.
        own: A person's own records that ``auto`` takes beside the menu.

    Raises:
        InputError: If a law is not known or two have one name.
    """
    if isinstance(wanted, str) and wanted == "auto":
        return _by_name([*LAWS.values(), *own])
    many = [wanted] if isinstance(wanted, str | Law) else list(wanted)
    if not many:
        raise InputError("no law is named; give auto, or one of " + ", ".join(LAWS))
    return _by_name([one if isinstance(one, Law) else _find(one) for one in many])


def _by_name(laws: Iterable[Law]) -> dict[str, Law]:
    named: dict[str, Law] = {}
    for one in laws:
        if one.name in named and named[one.name] is not one:
            raise InputError(f"two laws have the name {one.name}; give yours another one")
        named[one.name] = one
    return named


def _find(name: str) -> Law:
    if name in LAWS:
        return LAWS[name]
    module, colon, attribute = name.partition(":")
    if colon:
        return _import_law(module, attribute)
    near = get_close_matches(name, LAWS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InputError(
        f"law {name} is not known{hint} There are {', '.join(LAWS)}; a law of your own is named "
        "module:name"
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


def check_formula(law: Law, points: Points, where: Mapping[str, float] | None = None) -> None:
    """Refuse a formula that does not do on these points what its record says.

    Args:
        law: A person's own law.
        points: The points it will be fitted to.
        where: Values of parameters, by name; the middle of their bounds otherwise.

    Raises:
        InputError: If it fails, gives another shape, or is not linear in an amplitude.
    """
    middle = {p.name: _middle(p.lower, p.upper, p.scale == "log") for p in law.parameters}
    p = {name: np.array([[value]]) for name, value in {**middle, **(where or {})}.items()}
    amplitudes = law.amplitudes
    duals = {**p, **{name: Dual(p[name], {name: 1.0}) for name in amplitudes}}
    try:
        result = law.loss(points, duals, references_of(points))  # type: ignore[arg-type]
        twice = law.loss(points, {**p, **{a: 2 * p[a] for a in amplitudes}}, references_of(points))
        np.broadcast_to(value_of(result), (1, len(points)))
    except InputError as error:
        raise InputError(f"law {law.name}: {error}") from error
    except Exception as error:
        raise InputError(
            f"law {law.name} fails on {len(points)} points ({type(error).__name__}: {error}); its "
            "function takes (points, p, references), p[name] of shape (K, 1), and returns nats of "
            "shape (K, M)"
        ) from error
    expected = value_of(result) + sum(p[a] * slopes_of(result).get(a, 0.0) for a in amplitudes)
    if not np.allclose(twice, expected, rtol=1e-6, equal_nan=True):
        raise InputError(
            f"law {law.name} is not linear in {', '.join(amplitudes)}: a parameter of the role "
            "amplitude must be a factor of its term; give the others the role nonlinear"
        )


def _middle(low: float, high: float, log: bool) -> float:
    if log:
        return float(np.sqrt(low * high))
    return 0.5 * (max(low, -10.0) + min(high, 10.0))
