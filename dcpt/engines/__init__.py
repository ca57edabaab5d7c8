"""Engines: where planned runs are trained.

Each takes the same plan, leaves the same run folders, and can go on where another one stopped.
"""
