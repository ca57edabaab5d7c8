"""Runs: their identity, what they read, and their folders on disk. No torch, no pandas."""
