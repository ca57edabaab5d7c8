"""Warnings about the design of the runs and about fitted laws."""
