"""Speed: paired timing of a method and its static twin on real inputs, the bound, telemetry, and their records.

Touches nothing but its own records (`RESULTS/records/speed/`); knows no method by name and trains nothing.
"""
