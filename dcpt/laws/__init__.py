"""Laws: their menu, the fitter, held-out comparison and draws (numpy and scipy only)."""

from __future__ import annotations

from dcpt.laws.fit_files import load_fit
from dcpt.laws.fitted import Fit
from dcpt.laws.fitting import fit, offer_laws
from dcpt.laws.flags import explain_flag
from dcpt.laws.formulas import LAWS
from dcpt.laws.law import Law, Parameter, Range, References
from dcpt.laws.points import Points

__all__ = [
    "LAWS",
    "Fit",
    "Law",
    "Parameter",
    "Points",
    "Range",
    "References",
    "explain_flag",
    "fit",
    "load_fit",
    "offer_laws",
]
