"""The built-in laws. A law is a function and a record; no other code depends on its name.

There is one file per family: ``shares`` (N, D and share only), ``anchored`` (starting from the base
model's loss), ``phases`` (points at a constant rate and after a decay together), ``annealed``
(points after a decay only), ``repetition`` (repeated text) and ``schedules`` (the full history of
the learning rate). ``coordinates`` contains the scaled quantities and parameters that they share.
"""

from dcpt.laws.formulas.anchored import ANCHORED_LAWS
from dcpt.laws.formulas.annealed import ANNEALED_LAWS
from dcpt.laws.formulas.coordinates import NOTATION
from dcpt.laws.formulas.phases import PHASE_LAWS
from dcpt.laws.formulas.repetition import REPETITION_LAWS
from dcpt.laws.formulas.schedules import SCHEDULE_LAWS
from dcpt.laws.formulas.shares import SHARE_LAWS
from dcpt.laws.law import Law

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        *(*SHARE_LAWS, *ANCHORED_LAWS, *PHASE_LAWS, *ANNEALED_LAWS, *REPETITION_LAWS),
        *SCHEDULE_LAWS,
    )
}
"""The built-in laws by name."""

__all__ = ["LAWS", "NOTATION"]
