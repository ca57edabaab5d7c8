"""Configurations of other trainers, written from a recommendation."""

from __future__ import annotations

from dcpt.trainer_configs.records import DocumentLengths, Recipe, Source, Stage
from dcpt.trainer_configs.trainers import TRAINERS, find_trainer

__all__ = ["TRAINERS", "DocumentLengths", "Recipe", "Source", "Stage", "find_trainer"]
