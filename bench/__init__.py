"""The harness: one interface, honest costs, training, evaluation, tables and reports.

It knows no method by name and imports neither `baselines` nor `vared`.
"""
