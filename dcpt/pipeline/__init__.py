"""The steps between a study file and its report, one call each.

Training and laws meet here. What a step makes is in the folder of the study file: the prepared
texts, ``runs``, and ``fit`` with the table, the laws, the recommendation, its verification and the
report.
"""
