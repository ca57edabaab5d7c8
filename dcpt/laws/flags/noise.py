"""How far two equal losses differ, and how far a base moves by itself."""

from __future__ import annotations

EVALUATION_NOISE = 0.01
"""Nats: twice what two equal runs differed by in the pilot (.005)."""

GENERAL_FALL = 0.04
"""Share of the base's general loss. A base goes on learning from its own mix: by up to .7 % at
constant rate in the pilot, 1.5 % in the demo and 2.6 % in runs made for ``dcpt diagnose``, whose
base is under-trained; on another mix a made run fell by 31 %, and SmolLM2-135M by 14 %
(``experiments/smollm2.md``)."""
