"""The command line: what people type, and what they see."""

from __future__ import annotations

from dcpt.cli.entry import app, main

__all__ = ["app", "main"]
