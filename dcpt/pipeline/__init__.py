"""The steps from a study file to its report, a function each.

This package uses both the training and the fitting half. The steps write to folders next to the
study file: the prepared text, ``runs``, and ``fit`` with the table, the laws, the recommendation,
its verification and the report.
"""
