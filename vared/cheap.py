"""The cheap linear operations Φ that make what was not computed from what was.

Channels: Φᶜ makes channel c ≥ C' from computed channel c mod C'. Frames: Φᵗ makes frame iR + j from computed frame i.
Each kind has its own form of both:

- "depthwise": a 3×3 filter per made map (after GhostNet); 9 multiply-adds an output;
- "affine": scale and shift per made map; 1 an output;
- "absorbable": channels by a positive scale (1 an output), frames as copies (0); the unit applies them after its
  activation, where the next convolution could take them up in its own weights.

An inference pass runs each Φ as one registered operation, `vared::cheap`, whose formula the counter knows.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cost import register_formula

Kind = Literal["depthwise", "affine", "absorbable"]
TAPS: dict[str, int] = {"depthwise": 9, "affine": 1, "scale": 1, "copy": 0}


def _apply(x: Tensor, weight: Tensor, shift: Tensor, form: str) -> Tensor:
    """Φ over maps: x (B, N, ..., H, W), weight (N,) or (N, 3, 3), shift (N,)."""
    if form == "copy":
        return x
    ones = (1,) * (x.dim() - 2)
    if form == "depthwise":
        if x.dim() == 4:
            return F.conv2d(x, weight.unsqueeze(1), shift, padding=1, groups=len(weight))
        return F.conv3d(x, weight[:, None, None], shift, padding=(0, 1, 1), groups=len(weight))
    return torch.addcmul(shift.view(1, -1, *ones), x, weight.view(1, -1, *ones))


@torch.library.custom_op("vared::cheap", mutates_args=())
def _cheap(x: Tensor, weight: Tensor, shift: Tensor, form: str) -> Tensor:
    return x.clone() if form == "copy" else _apply(x, weight, shift, form)


@_cheap.register_fake
def _(x: Tensor, weight: Tensor, shift: Tensor, form: str) -> Tensor:
    return torch.empty_like(x)


def _formula(args: tuple[object, ...], kwargs: dict[str, object], output: Tensor) -> int:
    """Taps × outputs."""
    form = args[3] if len(args) > 3 else kwargs["form"]
    return TAPS[str(form)] * output.numel()


register_formula(torch.ops.vared.cheap, _formula)


def cheap(x: Tensor, weight: Tensor, shift: Tensor, form: str) -> Tensor:
    """Φ, differentiable where gradients are wanted, one counted operation where they are not."""
    if torch.is_grad_enabled():
        return _apply(x, weight, shift, form)
    out: Tensor = _cheap(x, weight, shift, form)
    return out


class Cheap(nn.Module):
    """The parameters of one Φ over `maps` made maps; starts as a copy."""

    def __init__(self, form: str, maps: int) -> None:
        super().__init__()
        self.form, self.taps = form, TAPS[form]
        weight = torch.ones(maps)
        if form == "depthwise":
            weight = F.pad(torch.ones(maps, 1, 1), (1, 1, 1, 1))
        elif form == "scale":
            weight = torch.zeros(maps)  # the scale is exp(weight), positive
        self.weight = _parameter(weight, learned=form != "copy")
        self.shift = _parameter(torch.zeros(maps), learned=form in ("depthwise", "affine"))

    def forward(self, x: Tensor) -> Tensor:
        """(B, maps, ...) to the same shape."""
        return cheap(x, self.scale, self.shift, self.form)

    @property
    def scale(self) -> Tensor:
        """What each map is multiplied by, or its filter."""
        return self.weight.exp() if self.form == "scale" else self.weight


def _parameter(value: Tensor, learned: bool) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=learned)


def channel_form(kind: Kind) -> str:
    """Which form Φᶜ takes."""
    return "scale" if kind == "absorbable" else kind


def frame_form(kind: Kind) -> str:
    """Which form Φᵗ takes."""
    return "copy" if kind == "absorbable" else kind
