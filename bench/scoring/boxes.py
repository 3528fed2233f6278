"""Boxes: what a detector finds in each key frame (frame-mAP, and recall and classification as YOWO prints them)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from bench.accuracy.detection import key_frame
from bench.accuracy.intervals import Interval
from bench.accuracy.pooled import Name, pooled_interval
from bench.method import Prediction
from bench.scoring.base import Scoring
from bench.training import TrainingError

FIGURES: tuple[Name, ...] = ("mAP", "recall", "classification")


class Boxes(Scoring):
    """first_box (1 if the box of the highest score is right, or rightly none), and the columns of `key_frame`."""

    main = "first_box"

    def centre(self, prediction: Prediction, target: list[Tensor]) -> dict[str, list[Any]]:
        """The columns, of one key frame a sample."""
        if prediction.boxes is None:
            raise ValueError("the method gave no boxes, and this data set is one of boxes")
        if not all(bool(found.isfinite().all()) for found in prediction.boxes):
            raise TrainingError("the boxes are not finite")
        rows = [
            key_frame(found.float().cpu().numpy(), truth.cpu().numpy())
            for found, truth in zip(prediction.boxes, target, strict=True)
        ]
        first = [float(_first(row)) for row in rows]
        return {"first_box": first, **{name: [row[name] for row in rows] for name in rows[0]}}

    def figures(self, samples: pd.DataFrame) -> dict[str, Interval]:
        """mAP at 0.5, recall and classification."""
        return {name: pooled_interval(name, [samples]) for name in FIGURES}


def _first(row: dict[str, Any]) -> bool:
    """Whether the box of the highest score is right; of a frame with nothing in it, whether nothing is said."""
    if not len(row["boxes.score"]):
        return not len(row["truths"])
    return bool(row["boxes.right"][int(np.argmax(row["boxes.score"]))])
