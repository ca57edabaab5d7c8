"""Fits: laws fitted to every channel, compared, weighted, drawn and kept."""
