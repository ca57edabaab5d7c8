"""Laws: their menu, the fitter, held-out comparison and draws (numpy and scipy only)."""

from __future__ import annotations

from dcpt.laws.fit_files import load_fit
from dcpt.laws.fitted import Fit
from dcpt.laws.fitting import fit, offer_laws
from dcpt.laws.flags import explain_flag
from dcpt.laws.formulas import LAWS

__all__ = ["LAWS", "Fit", "explain_flag", "fit", "load_fit", "offer_laws"]
