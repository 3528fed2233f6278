"""Single-shot action detectors on a 3D backbone: the head that VA-RED² Table 8 fits, without its 2D branch.

After YOWO (Köpüklü et al., "You Only Watch Once", 2019): features of a clip, brought to one step of time (how is not
described: by their mean, as X3D's own head does), pass the fusion with channel attention (Fu et al., "Dual Attention
Network", CVPR 2019), and anchors on the last map say what is where in the clip's last frame. At 16 × 224 × 224 and 21
classes I3D costs 43.96 G multiply-adds and X3D-M 5.76, in print 43.9 and 5.75; of these the head takes 1.14 G and
1.10 G, in both 0.10 G the products of its attention.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.networks.convolution import convolution
from baselines.networks.i3d import i3d
from baselines.networks.initialise import initialise
from baselines.networks.region import ANCHORS, Detection
from baselines.networks.x3d import x3d_m
from bench.weights import Origin


class ChannelAttention(nn.Module):
    """Channels (B, C, H, W), each plus γ times a mean of all: x + γ · softmax(max(G) - G) · x, where G = x · xᵀ.

    The less alike two channels are, the more one takes of the other. γ starts at 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        places = x.flatten(2)
        alike = places @ places.transpose(1, 2)
        weights = (alike.amax(2, keepdim=True) - alike).softmax(2)
        return x + self.gamma * (weights @ places).view_as(x)


def _head(inputs: int, width: int, classes: int, dropout: float) -> nn.Sequential:
    """(B, inputs, h, w) to what `Detection` reads."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            reduce=convolution(inputs, width, 1),
            before=convolution(width, width, 3),
            attention=ChannelAttention(),
            after=convolution(width, width, 3),
            dropout=nn.Dropout(dropout),
            project=nn.Conv2d(width, width, 1),
            anchors=nn.Conv2d(width, len(ANCHORS) * (5 + classes), 1, bias=False),
        )
    )


class Detector(nn.Module):
    """Clips (B, 3, T, H, W) to the map (B, anchors · (5 + classes), ⌈H/32⌉, ⌈W/32⌉) that `task` reads.

    backbone: clips to features (B, channels, t, ⌈H/32⌉, ⌈W/32⌉), made of parts of the registered network `name`.
    size: of the square crops whose pixels boxes are in.

    Raises:
        ValueError: `head_width` below 1.
    """

    def __init__(
        self, name: str, backbone: nn.Module, channels: int, size: int, classes: int, head_width: int, dropout: float
    ) -> None:
        super().__init__()
        if head_width < 1:
            raise ValueError(f"head_width must be 1 or more, got {head_width}")
        self.task = Detection(classes, size)
        self.backbone = backbone
        self.origins = {f"backbone.{part}": Origin(name, f"{part}.") for part, _ in backbone.named_children()}
        self.head = _head(channels, head_width, classes, dropout)
        self.head.apply(initialise)
        nn.init.normal_(self.head.get_submodule("anchors").weight, 0, 0.01)  # type: ignore[arg-type]  # boxes begin as anchors

    def forward(self, x: Tensor) -> Tensor:
        """The map."""
        out: Tensor = self.head(self.backbone(x).mean(2))
        return out


def detector_i3d(
    frames: int, size: int, classes: int, *, width: int = 64, head_width: int = 1024, dropout: float = 0.1
) -> Detector:
    """A detector on I3D; `frames` changes nothing, and any run.

    `width` of the backbone, 64 in the paper, and `head_width` shrink it for small data; `dropout` is the head's. A
    learning rate of 0.02 is too fast for the full head, which was published with 1e-4, but not for an eighth of it.

    Raises:
        ValueError: `width` below 4, `head_width` below 1.
    """
    whole = i3d(frames, size, 1, width=width)
    backbone = nn.Sequential(OrderedDict(stem=whole.stem, blocks=whole.blocks))
    return Detector("i3d", backbone, whole.head.in_features, size, classes, head_width, dropout)


def detector_x3d_m(
    frames: int,
    size: int,
    classes: int,
    *,
    width: int = 24,
    blocks: Sequence[int] = (3, 5, 11, 7),
    head_width: int = 1024,
    dropout: float = 0.1,
) -> Detector:
    """A detector on the four stages of X3D-M, without its widest convolution; `frames` changes nothing, and any run.

    `width` and `blocks` of the backbone, and `head_width`, shrink it for small data; `dropout` is the head's.

    Raises:
        ValueError: a width, or a stage's blocks, below 1.
    """
    whole = x3d_m(frames, size, 1, width=width, blocks=blocks)
    backbone = nn.Sequential(OrderedDict(stem=whole.stem, stages=whole.stages))
    return Detector("x3d_m", backbone, width * 2 ** (len(blocks) - 1), size, classes, head_width, dropout)
