"""A decided policy executed fast: what was not computed is not rebuilt where the next layer can do without it.

It takes a trained `VaRed` and gives the same decisions, answers (to rounding) and accounted cost. One part a file;
nothing here can be trained.
"""
