"""Pictures of what is stored: for the page as inline SVG, and as SVG and PDF files for papers.

Drawn from tables, records, timings and logs that were already read; measures and decides nothing, and never imports
torch. matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.figures.insight import insight_pictures
from bench.report.figures.pareto import leading_picture, pareto
from bench.report.figures.picture import Picture, Section, inline, save
from bench.report.figures.speed import speeds
from bench.report.figures.training import training

if TYPE_CHECKING:
    from bench.report.content import Content

__all__ = ["Picture", "Section", "inline", "leading_picture", "pictures", "save"]


def pictures(content: Content) -> list[Picture]:
    """All pictures that the stored records allow, in the order of the page."""
    return [*pareto(content), *speeds(content), *training(content), *insight_pictures(content)]
