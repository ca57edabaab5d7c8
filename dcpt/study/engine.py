"""Where a study's runs are trained: its section ``engine``.

No key here is part of a run: the same study trains the same runs on every engine.
"""

from __future__ import annotations

from typing import Literal

from dcpt.study.section import Section

Kind = Literal["local"]


class EngineSection(Section):
    """The engine that trains the runs, and a section for each engine that has settings."""

    kind: Kind = "local"
