"""Scores and their uncertainty: intervals over seeds and independent sources.

Works on arrays of numbers, with numpy and scipy only.
It knows no method, no data set and no file, and never imports torch.
"""
