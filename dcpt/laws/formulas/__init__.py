"""The menu of laws. Adding one is a function and a record; nothing else knows a law by name.

One file per family: ``shares`` (N, D and share alone), ``anchored`` (laws that start from the
base's own loss), ``phases`` (constant rate and decayed ends together), ``annealed``
(decayed ends alone), ``repetition`` (repeated text) and
``schedules`` (the learning rate's whole history). ``coordinates`` is what they are written in.
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
"""All laws by name."""

__all__ = ["LAWS", "NOTATION"]
