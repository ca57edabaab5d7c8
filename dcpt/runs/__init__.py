"""Runs: what defines one, what it reads, and its folder on disk. No torch, no pandas."""
