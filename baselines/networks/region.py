"""Boxes and classes from anchors on a grid, as in YOLOv2 (Redmon and Farhadi, "YOLO9000", CVPR 2017).

The map (B, anchors · (5 + classes), h, w) of a single-shot head says in every cell and for each anchor: x, y, w, h, how
sure it is of a box, and of each class. With the cell's place c, the anchor's size p, and the picture's sides 1, the
box has its centre at (c + σ(x, y)) / (w, h) and the size p · exp(w, h); it is cut off at the picture's edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from baselines.networks.boxes import overlaps, unsuppressed
from bench.task import Task

CELLS = 7
ANCHORS = tuple(
    (width / CELLS, height / CELLS)
    for width, height in (
        (0.95878, 3.10197),
        (1.67204, 4.0040),
        (1.75482, 5.64937),
        (3.09299, 5.80857),
        (4.91803, 6.25225),
    )
)
"""Width and height as shares of the picture; published in cells of the 7 × 7 that 224 × 224 gives, for J-HMDB."""

OBJECT_WEIGHT = 5.0  # of the confidence where there is a box; all other terms have weight 1
FREE = 0.6  # a predicted box that overlaps a true one by more is not punished for being sure
CONFIDENCE = 0.005  # less sure boxes are no answer
SUPPRESSION = 0.4
MOST = 100  # boxes a sample, the best before suppression


class Detection(Task):
    """Boxes of `classes` classes on a square picture of `size` pixels, from the map of a head with ANCHORS.

    The description of the loss (YOLOv2, weights object 5 and 1 for no object, classes and coordinates) leaves open, and
    here is: smooth L1 of coordinates (squared errors of w and h diverge at rates that classifiers bear), squared errors
    of confidences, cross-entropy over classes; coordinates as the map has them, σ(x, y) in cells and w, h as logarithms
    of anchors; the confidence to learn where there is a box: by how much the predicted one overlaps it; terms summed
    over a sample, and their mean over the batch; true boxes that meet in one cell and anchor all count there; no
    warm-up in which all boxes learn to be anchors; a true side counts as a pixel at least.
    """

    kind = "boxes"

    def __init__(self, classes: int, size: int) -> None:
        self.classes, self.size = classes, size

    def loss(self, output: Tensor, target: Sequence[Tensor]) -> Tensor:
        """The region loss; target: (m, 5) of each sample, corners in pixels and class."""
        values = self._values(output)
        confidence = values[..., 4].sigmoid()
        truths = torch.cat(list(target)).to(values)
        rows = _rows(target).to(output.device)
        slots, wanted = self._met(truths, output.shape[-2:])
        with torch.no_grad():
            corners = self._corners(values, output.shape[-2:])
            free = overlaps(corners[:, :, None], _padded(target, values)[:, None, :, :4]).amax(2) <= FREE
            free[rows, slots] = False
            found = overlaps(corners[rows, slots], truths[:, :4])
        met = values[rows, slots]
        reached = torch.cat([met[:, :2].sigmoid(), met[:, 2:4]], 1)
        terms = (
            OBJECT_WEIGHT * (confidence[rows, slots] - found).square().sum(),
            confidence.square().masked_fill(~free, 0).sum(),
            F.smooth_l1_loss(reached, wanted, reduction="sum"),
            F.cross_entropy(met[:, 5:], truths[:, 4].long(), reduction="sum"),
        )
        return torch.stack(terms).sum() / len(output)

    @torch.no_grad()
    def right(self, output: Tensor, target: Sequence[Tensor]) -> Tensor:
        """1 where every true box's class is named in the cell and anchor that meet it, so also where there is no box.

        VA-RED² lets its efficiency loss act on what is "correctly classified", and leaves open what that is for boxes.
        """
        values = self._values(output)
        truths, rows = torch.cat(list(target)).to(values), _rows(target).to(values.device)
        slots, _ = self._met(truths, output.shape[-2:])
        named = values[rows, slots, 5:].argmax(1) == truths[:, 4]
        return values.new_ones(len(values)).scatter_reduce(0, rows, named.to(values), "amin")

    @torch.no_grad()
    def answer(self, output: Tensor) -> dict[str, Any]:
        """Boxes (n ≤ MOST, 7) of each sample, best first: corners in pixels, confidence, share of the class, class."""
        values = self._values(output)
        confidence = values[..., 4].sigmoid()
        share, label = values[..., 5:].softmax(2).max(2)
        rows = torch.stack([confidence, share, label.to(values)], 2)
        found = torch.cat([self._corners(values, output.shape[-2:]), rows], 2)
        score = (confidence * share).masked_fill(confidence <= CONFIDENCE, 0)
        best = score.topk(min(MOST, score.shape[1]), 1).indices
        found = found.gather(1, best[:, :, None].expand(-1, -1, found.shape[2]))
        likely = ~(found[..., 4] <= CONFIDENCE)  # also what is no number, so that it is seen
        stays = unsuppressed(found[..., :4], found[..., 6], likely, SUPPRESSION)
        return {"boxes": [boxes[kept] for boxes, kept in zip(found, stays, strict=True)]}

    def _values(self, output: Tensor) -> Tensor:
        """What the map says, (B, anchors · h · w, 5 + classes), in single precision at least."""
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        by_anchor = torch.unflatten(output.flatten(2), 1, (len(ANCHORS), 5 + self.classes))
        return by_anchor.transpose(2, 3).flatten(1, 2)

    def _corners(self, values: Tensor, grid: Sequence[int]) -> Tensor:
        """Boxes (B, N, 4) in pixels, cut off at the edges."""
        height, width = grid
        places = torch.arange(height * width, device=values.device)
        cells = torch.stack([places % width, places // width], 1).repeat(len(ANCHORS), 1)
        anchors = values.new_tensor(ANCHORS).repeat_interleave(height * width, 0)
        centres = (values[..., :2].sigmoid() + cells) / values.new_tensor([width, height])
        halves = anchors * values[..., 2:4].exp() / 2
        return torch.cat([centres - halves, centres + halves], 2).clamp(0, 1) * self.size

    def _met(self, truths: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
        """By what true boxes (m, 5) are met: its place among anchors · h · w, (m,), and what it should say, (m, 4)."""
        height, width = grid
        corners = truths[:, :4] / self.size
        sides = (corners[:, 2:] - corners[:, :2]).clamp(min=1 / self.size)
        centres = (corners[:, :2] + corners[:, 2:]) / 2 * truths.new_tensor([width, height])
        across = centres[:, 0].long().clamp(0, width - 1)
        down = centres[:, 1].long().clamp(0, height - 1)
        anchors = truths.new_tensor(ANCHORS)
        anchor = _centred(sides[:, None], anchors).argmax(1)
        inside = centres - torch.stack([across, down], 1)
        wanted = torch.cat([inside, (sides / anchors[anchor]).log()], 1)
        return (anchor * height + down) * width + across, wanted


def _centred(one: Tensor, other: Tensor) -> Tensor:
    """Overlap of boxes of sizes (..., 2) at one centre: how alike their shapes are."""
    return overlaps(F.pad(one, (2, 0)), F.pad(other, (2, 0)))


def _rows(target: Sequence[Tensor]) -> Tensor:
    """Whose each true box is, (m,)."""
    return torch.repeat_interleave(torch.tensor([len(boxes) for boxes in target]))


def _padded(target: Sequence[Tensor], like: Tensor) -> Tensor:
    """True boxes (B, most and one, 5); those that fill up have no area, so that nothing overlaps them."""
    return F.pad(pad_sequence(list(target), batch_first=True).to(like), (0, 0, 0, 1))
