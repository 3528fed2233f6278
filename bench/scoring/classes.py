"""Classes: top-1 of the centre clip, top-1 and top-5 of a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from bench.accuracy.average_precision import mean_average_precision_interval, one_hot
from bench.accuracy.intervals import Interval, interval
from bench.data.sampling import chosen_rows, test_batches
from bench.data.split import DataError, measured_by_map
from bench.distributed import agree_on_left_out, in_turns
from bench.flow import to_device
from bench.memory import Halving
from bench.method import Batch, Method, Prediction
from bench.scoring.base import Pass, Scoring
from bench.training import TrainingError


class Classes(Scoring):
    """clip_1 (1 if the centre clip is right), video_1, video_5 (averaged softmax over views; NaN where not scored).

    Of a set that is measured by mAP also scores, that averaged softmax itself: float32 (K,), so that it ties nothing
    that half precision would near 1. Of others it is not stored: it would be most of a record.
    """

    main = "clip_1"

    def centre(self, prediction: Prediction, target: Tensor) -> dict[str, list[Any]]:
        """clip_1."""
        right: list[Any] = (_logits(prediction).argmax(1) == target).float().tolist()
        return {"clip_1": right}

    def further(self, method: Method, data: Pass) -> tuple[pd.DataFrame, Mapping[str, Interval]]:
        """video_1 and video_5 of the scored videos, and their mAP: softmax averaged over `clips` × `crops` views.

        Raises:
            TrainingError: the logits are not finite. DataError: none of the videos can be read.
        """
        split, views = data.split, data.views
        rows, classes = chosen_rows(split, views.video_videos), len(split.classes)
        total, position = np.zeros((len(rows), classes)), {row: place for place, row in enumerate(rows.tolist())}

        def batches(*turn: int) -> Iterator[Batch]:
            cut = (views.clips, views.crops, data.batch, rows)
            return test_batches(split, method.spec, data.sampling, *cut, turn=(turn[0], turn[1]), leave_out=True)

        def answer(item: Batch) -> tuple[list[int], NDArray[np.float32]]:
            item = to_device(item, method.device)
            prediction = method(item.sample)
            return item.index.tolist(), _logits(prediction).float().softmax(1).cpu().numpy()

        for index, shares in chain.from_iterable(in_turns(batches, Halving("evaluation", answer))):
            np.add.at(total, [position[row] for row in index], shares)
        agree_on_left_out(split)
        if not np.isfinite(total).all():
            raise TrainingError("the logits are not finite")
        read = total.any(1)  # softmax leaves no row of zeros
        if not read.any():
            raise DataError(f"none of the {len(rows)} videos asked for can be read")
        rows, total = rows[read], total[read]
        ranked, target = np.argsort(-total, axis=1), split.targets[rows][:, None]
        five = (ranked[:, :5] == target).any(1).astype(np.float32) if classes >= 20 else np.nan
        first = (ranked[:, :1] == target)[:, 0].astype(np.float32)
        scores = (total / (views.clips * views.crops)).astype(np.float32)  # as they are stored
        precision = mean_average_precision_interval(scores, one_hot(target[:, 0], classes), split.groups[rows])
        stored = {"scores": [*scores]} if measured_by_map(split) else {}
        return pd.DataFrame({"index": rows, "video_1": first, "video_5": five, **stored}), {"mAP": precision}

    def figures(self, samples: pd.DataFrame) -> dict[str, Interval]:
        """clip-1, video-1 and video-5, of the videos that were scored."""
        found = {}
        for name, column in (("clip-1", "clip_1"), ("video-1", "video_1"), ("video-5", "video_5")):
            known = samples[samples[column].notna()]
            if len(known):
                found[name] = interval(known[column].to_numpy(), known["group"].to_numpy())
        return found


def _logits(prediction: Prediction) -> Tensor:
    if prediction.logits is None:
        raise ValueError("the method gave no class logits, and this data set is one of classes")
    return prediction.logits
