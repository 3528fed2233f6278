"""The sizes of Uni-AdaFocus: how many frames are looked at, and how closely."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Looks:
    """How many frames are looked at, and at how many pixels.

    frames: candidates, of `size` pixels. glances: of them, one from each of as many equal parts, scaled to
    `glance_size`. focuses: of them, chosen by the temporal policy. patch: pixels that a box is resampled to. smallest:
    extent of the smallest box in pixels; the largest is the frame.

    Raises:
        ValueError: more looks than frames, or larger than the frame.
    """

    frames: int
    size: int
    glances: int
    focuses: int
    glance_size: int
    patch: int
    smallest: int

    def __post_init__(self) -> None:
        """Checks every number."""
        if self.frames < 1:
            raise ValueError(f"frames must be 1 or more, got {self.frames}")
        for name in ("glances", "focuses", "glance_size", "patch", "smallest"):
            value, most = getattr(self, name), self.frames if name in ("glances", "focuses") else self.size
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be in 1..{most}, got {value}")
