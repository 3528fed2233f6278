"""How Uni-AdaFocus answers from what it has seen: after every frame, or once from both networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.adafocus.classifier import Embedding, PrefixClassifier, running_max
from baselines.adafocus.looks import Looks


class PrefixAnswer(nn.Module):
    """Answers after every frame from the running maxima of what both networks have seen, a classifier for each frame.

    glance, focus: their channels. glance_head, focus_head: answer from single frames, in training only. The state, (N,
    2·hidden), holds the maxima of the focus (zeros before it, below which ReLU never falls) and those of the glance.
    """

    def __init__(self, glance: int, focus: int, hidden: int, classes: int, looks: Looks) -> None:
        super().__init__()
        self.glance_embedding, self.focus_embedding = Embedding(glance, hidden), Embedding(focus, hidden)
        self.glance_fc = PrefixClassifier(hidden, classes, looks.glances)
        self.focus_fc = PrefixClassifier(2 * hidden, classes, looks.focuses)
        self.glance_head, self.focus_head = nn.Linear(glance, classes), nn.Linear(focus, classes)

    def after_glance(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and state after the whole glance, whose features are (N, T, channels)."""
        seen = self.glance_embedding(features).amax(1)
        return self.glance_fc.at(-1, seen), torch.cat([torch.zeros_like(seen), seen], 1)

    def after_focus(self, features: Tensor, state: Tensor, last: int) -> tuple[Tensor, Tensor]:
        """Logits and state after more frames of the focus, (N, n, channels), the last of them number `last`."""
        focused, glanced = state.chunk(2, 1)
        known = torch.cat([torch.maximum(focused, self.focus_embedding(features).amax(1)), glanced], 1)
        return self.focus_fc.at(last, known), known

    def every(self, glance: Tensor, focus: Tensor) -> Tensor:
        """Logits after each frame of the glance and then of the focus: (N, T + K, classes)."""
        glanced, focused = running_max(self.glance_embedding(glance)), running_max(self.focus_embedding(focus))
        known = torch.cat([focused, glanced[:, -1:].expand(-1, focused.shape[1], -1)], 2)
        return torch.cat([self.glance_fc(glanced), self.focus_fc(known)], 1)

    def judged(self, logits: Tensor) -> Tensor:
        """What the heads are judged by, of logits (N, T, classes) of single frames: each of them."""
        return logits

    def macs(self, glances: int, focuses: int) -> tuple[int, int]:
        """Multiply-adds of one `after_glance` and one `after_focus` of so many frames."""
        return (
            glances * self.glance_embedding.linear.weight.numel() + self.glance_fc.macs,
            focuses * self.focus_embedding.linear.weight.numel() + self.focus_fc.macs,
        )


class SumAnswer(nn.Module):
    """Answers after the glance, and after the focus by the sum of both networks' logits of their mean features.

    For networks that look at all frames at once (TSM, X3D). The state is the logits (N, classes).
    """

    def __init__(self, glance_head: nn.Sequential, focus_head: nn.Sequential) -> None:
        super().__init__()
        self.glance_head, self.focus_head = glance_head, focus_head

    def after_glance(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and state, from features (N, T, channels)."""
        logits: Tensor = self.glance_head(features.mean(1))
        return logits, logits

    def after_focus(self, features: Tensor, state: Tensor, last: int) -> tuple[Tensor, Tensor]:
        """Logits and state, from features (N, K, channels) of all frames of the focus."""
        logits: Tensor = state + self.focus_head(features.mean(1))
        return logits, logits

    def every(self, glance: Tensor, focus: Tensor) -> Tensor:
        """Both answers, (N, 2, classes)."""
        first, state = self.after_glance(glance)
        return torch.stack([first, self.after_focus(focus, state, -1)[0]], 1)

    def judged(self, logits: Tensor) -> Tensor:
        """What the heads are judged by, of logits (N, T, classes) of single frames: their mean, (N, 1, classes)."""
        return logits.mean(1, keepdim=True)

    def macs(self, glances: int, focuses: int) -> tuple[int, int]:
        """Multiply-adds of one `after_glance` and one `after_focus`, whatever the frames."""
        glance, focus = (
            sum(layer.weight.numel() for layer in head if isinstance(layer, nn.Linear))
            for head in (self.glance_head, self.focus_head)
        )
        return glance, focus


def head(network: str, channels: int, classes: int, width: int) -> nn.Sequential:
    """Features (..., channels) to logits: X3D's own two layers, of 2048 features at width 64, or one."""
    if not network.startswith("x3d"):
        return nn.Sequential(nn.Linear(channels, classes))
    return nn.Sequential(nn.Linear(channels, 32 * width, bias=False), nn.ReLU(), nn.Linear(32 * width, classes))
