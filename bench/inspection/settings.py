"""What an inspection hangs on besides the network: which maps are compared, which are redundant, on how many clips.

The slides print the redundancy of trained networks (results/published/redundancy.toml) without its rule. Remembered of
the paper are the thresholds 0.85 of the correlation and 0.001 of the root mean square error, and that a map counts
where "both" are passed. An error of 0.001 cannot have been a limit: the printed means are 0.07 to 0.12 beside
proportions of 0.43 to 0.68. So the correlation alone decides unless a limit of the error is asked for.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bench.records import Strict


class Rule(Strict):
    """How feature maps are compared, and when one is redundant.

    correlation: a map is redundant if its correlation (CC) with another of its group is at least this.
    rmse: if given, and their root mean square error (RMSE) is at most this.
    pairs: of the frames of a channel all pairs, or neighbours in time. Channels have no order: of those of a frame
        always all pairs.
    scale: RMSE is in shares of the range (maximum - minimum) of the layer's maps of the clip, or in their own unit.
    least_pixels: layers with smaller maps are left out, since few pixels correlate by chance (4 pixels of noise reach
        0.85 in 7 % of all pairs, 16 in 0.002 %).
    """

    correlation: Annotated[float, Field(gt=0, le=1)] = 0.85
    rmse: Annotated[float, Field(ge=0)] | None = None
    pairs: Literal["all", "neighbours"] = "all"
    scale: Literal["range", "none"] = "range"
    least_pixels: Annotated[int, Field(ge=2)] = 16


class Settings(Strict):
    """One inspection.

    clips: test clips that are run, the first of a fixed shuffle; 0: all. classes: whose dearest and cheapest clips are
    kept as pictures, the first so many. layer: whose most similar maps are kept; "": the middle one.
    """

    rule: Rule = Rule()
    clips: Annotated[int, Field(ge=0)] = 1000
    classes: Annotated[int, Field(ge=0)] = 6
    layer: str = ""
