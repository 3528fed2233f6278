"""How answers are scored: classes, boxes and masks, one file each.

Each says which columns the per-sample table of a record has, and which figures are computed from them.
"""

from bench.scoring.base import Scoring
from bench.scoring.boxes import Boxes
from bench.scoring.classes import Classes
from bench.scoring.masks import Masks

SCORINGS: dict[str, Scoring] = {"classes": Classes(), "boxes": Boxes(), "masks": Masks()}
"""By what a split's answers are."""

__all__ = ["SCORINGS", "Scoring"]
