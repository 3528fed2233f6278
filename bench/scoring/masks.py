"""Masks: pixels of whole pictures, seen through sliding windows at one or more scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.accuracy.intervals import Interval
from bench.accuracy.pooled import Name, pooled_interval
from bench.accuracy.segmentation import counts
from bench.data.cutting import normalised
from bench.data.sampling import chosen_rows
from bench.data.scale import padded, rescaled, windows
from bench.data.split import annotated
from bench.distributed import in_turns
from bench.memory import Halving
from bench.method import Batch, InputSpec, Method, Prediction
from bench.scoring.base import Pass, Scoring
from bench.training import TrainingError

FIGURES: tuple[Name, ...] = ("mIoU", "pixel-accuracy")


class Masks(Scoring):
    """crop_pixels (share of the centre crop's pixels that are right), and of whole pictures the columns of `counts`."""

    main = "crop_pixels"
    together = 16  # each answers for every pixel and class

    def centre(self, prediction: Prediction, target: Tensor) -> dict[str, list[Any]]:
        """crop_pixels; where nothing is known in a crop, it counts as right."""
        known = target >= 0
        right = ((_masks(prediction).argmax(1) == target) & known).flatten(1).sum(1)
        total = known.flatten(1).sum(1)
        share = torch.where(total > 0, right / total.clamp(min=1), 1.0)
        return {"crop_pixels": share.tolist()}

    def further(self, method: Method, data: Pass) -> tuple[pd.DataFrame, Mapping[str, Interval]]:
        """The columns of `counts` for every picture that is scored."""
        split = annotated(data.split)
        assert split is not None
        rows = chosen_rows(split, data.views.video_videos).tolist()

        def answer(item: Batch) -> Tensor:
            return _masks(method(item.sample.to(method.device))).float().softmax(1).cpu()

        answers = Halving("evaluation", answer)

        def counted(row: int) -> dict[str, Any]:
            shares = whole(answers, split.video(row), row, method.spec, data)
            return {"index": row, **counts(shares.argmax(0).numpy(), split.annotation(row).numpy(), len(shares))}

        return pd.DataFrame(list(in_turns(lambda rank, size: rows[rank::size], counted))), {}

    def figures(self, samples: pd.DataFrame) -> dict[str, Interval]:
        """mIoU and pixel accuracy, of the pictures that were scored."""
        known = samples[samples["pixels"].notna()]
        return {name: pooled_interval(name, [known]) for name in FIGURES}


Answers = Callable[[Batch], Sequence[Tensor]]
"""Softmax (n, K, S, S) of the parts of a batch of windows."""


def whole(answers: Answers, picture: Tensor, row: int, spec: InputSpec, data: Pass) -> Tensor:
    """Softmax (K, H, W) of a whole picture, uint8 (1, H, W, C), averaged over scales and over windows that overlap."""
    height, width = picture.shape[1:3]
    total: Tensor | float = 0.0
    for factor in data.views.scales:
        seen = _seen(answers, rescaled(picture, factor), row, spec, data)
        total = total + F.interpolate(seen.unsqueeze(0), (height, width), mode="bilinear", align_corners=False)[0]
    assert isinstance(total, Tensor)
    return total / len(data.views.scales)


def _seen(answers: Answers, picture: Tensor, row: int, spec: InputSpec, data: Pass) -> Tensor:
    """As `whole`, at one scale."""
    size, (height, width) = spec.size, picture.shape[1:3]
    picture = padded(picture.movedim(3, 1), size, 0).movedim(1, 3)
    high, wide = picture.shape[1:3]
    places = windows(high, wide, size)
    total: Tensor | float = 0.0
    for first in range(0, len(places), data.batch):
        part = places[first : first + data.batch]
        cuts = normalised(torch.stack([picture[:, y : y + size, x : x + size] for y, x in part]), spec)
        shares = torch.cat([*answers(Batch(cuts, None, torch.full((len(part),), row)))])
        for (y, x), share in zip(part, shares, strict=True):
            total = total + F.pad(share, (x, wide - x - size, y, high - y - size))
    assert isinstance(total, Tensor)
    return (total / total.sum(0))[:, :height, :width]  # as many windows as see a pixel, each with a sum of 1


def _masks(prediction: Prediction) -> Tensor:
    if prediction.masks is None:
        raise ValueError("the method gave no masks, and this data set is one of masks")
    if not bool(prediction.masks.isfinite().all()):
        raise TrainingError("the logits are not finite")
    return prediction.masks
