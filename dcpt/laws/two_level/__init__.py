"""The two-level model: Gaussian processes of the loss at the smallest size and of its growth."""

from dcpt.laws.two_level.joint import Joint
from dcpt.laws.two_level.process import TwoLevel, fit_two_level, refuse_table

__all__ = ["Joint", "TwoLevel", "fit_two_level", "refuse_table"]
