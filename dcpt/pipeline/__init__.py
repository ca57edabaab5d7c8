"""The steps from a study file to its report, a function each.

Training and laws meet here. What a step makes is in the folder of the study file: the prepared
texts, ``runs``, and ``fit`` with the table, the laws, the recommendation, its verification and the
report.
"""
