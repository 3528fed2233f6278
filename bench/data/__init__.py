"""Datasets, clip sampling and decoding.

A dataset is three `Split`s of labelled or annotated videos; `sampling` cuts clips out of them; `video` decodes files.
Nothing here knows a method, a network or the results.
"""

from bench.data.split import AnnotatedSplit, DataError, Dataset, Split

__all__ = ["AnnotatedSplit", "DataError", "Dataset", "Split"]
