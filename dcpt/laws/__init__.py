"""Loss laws: built-in formulas, fits, held-out comparison, bootstrap (numpy and scipy only)."""

from __future__ import annotations

from dcpt.laws.fits.files import load_fit, read_size_column, write_fit
from dcpt.laws.fits.fit_runs import fit
from dcpt.laws.fits.result import Fit
from dcpt.laws.fits.table_laws import offer_laws
from dcpt.laws.formulas import LAWS
from dcpt.laws.law import Law, Parameter, Range, References
from dcpt.laws.points.record import Points

__all__ = [
    "LAWS",
    "Fit",
    "Law",
    "Parameter",
    "Points",
    "Range",
    "References",
    "fit",
    "load_fit",
    "offer_laws",
    "read_size_column",
    "write_fit",
]
