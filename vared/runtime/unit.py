"""The dynamic unit at inference: computes what its gate decides, and passes it on compact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.cost import samples
from bench.inference.convolution import fuse
from vared.cheap import Cheap
from vared.dynamic_conv import DynamicUnit
from vared.runtime.absorbing import Absorbing
from vared.runtime.compact import Compact, Mixed
from vared.runtime.decision import Choice, FastGate, Followed, Side
from vared.runtime.device import Decision, Stored
from vared.runtime.folding import halved
from vared.runtime.mixing import mix_channels, mix_frames, scaled


class FastUnit(nn.Module):
    """As `DynamicUnit` of the absorbable kind in `eval()`, (B, C, T, H, W) to the same, compact."""

    def __init__(self, unit: DynamicUnit, followed: Followed) -> None:
        super().__init__()
        self.name, self.policy, self.session, self.followed = unit.name, unit.policy, unit.session, followed
        self.counts, self.strides = unit.counts, unit.strides
        relu = type(unit.act) is nn.ReLU
        assert isinstance(unit.conv, nn.Conv2d | nn.Conv3d)
        self.conv = Absorbing(fuse(unit.conv, unit.norm, relu))
        self.act = None if relu or isinstance(unit.act, nn.Identity) else unit.act
        if self.act is not None and hasattr(self.act, "inplace"):
            self.act.inplace = True  # type: ignore[assignment]  # what the convolution gave is nobody else's
        self.gate = None if unit.gate is None else FastGate(unit.gate, unit.policy, unit.decides)
        scales = [phi.weight.detach().exp() for phi in unit.channel_phi if isinstance(phi, Cheap)]
        self.scales = nn.ParameterList(scales).requires_grad_(False)
        one = self.conv.convolution.bias.new_ones(self.counts[0])
        self.every_scale: Tensor  # (options, C), of what each makes of all channels
        self.register_buffer("every_scale", torch.stack([one, *(torch.cat([one[len(s) :], s]) for s in scales)]))

    def forward(self, x: Tensor | Compact | Mixed | Stored) -> Tensor | Compact | Mixed | Stored:
        """Decides, if it has the gate; samples with the same open options run together. A tensor if all is computed."""
        followed = self.followed
        if followed.on_device:
            return self._on_device(x)
        assert not isinstance(x, Stored)
        x = x.whole() if isinstance(x, Mixed) else x
        if followed.laps is not None:
            followed.laps.begin(self.name, x.computed if isinstance(x, Compact) else x)
        if self.gate is not None:
            followed.decided[self.policy] = self.gate(x, self.session)
        decided = followed.decided[self.policy]
        if self.name in followed.dense:
            return _plain(self._run(x, decided.dense))
        if decided.sorted[0].rows is None:
            return _plain(self._run(x, decided.sorted[0]))
        whole = x.whole() if isinstance(x, Compact) else x
        parts = []
        for choice in decided.sorted:
            assert choice.rows is not None
            with samples(choice.rows):
                parts.append((choice.rows, self._run(whole[choice.rows], choice)))
        return Mixed(parts, len(whole))

    def _on_device(self, x: Any) -> Stored:
        """All samples together, each as far as it decided."""
        if self.gate is not None:
            self.followed.weights[self.policy] = self.gate.on_device(x, self.session)
        weights, split = self.followed.weights[self.policy]
        decision = Decision(weights, split, len(self.counts), len(self.strides))
        found: Stored = self.conv.decided(x, decision, self.every_scale)
        if self.act is not None:
            found.each(self.act)
        return found

    @property
    def halves(self) -> bool:
        """Whether each option computes half of the one before, as the kernels take for granted."""
        counts = tuple(halved(self.counts[0], option) for option in range(len(self.counts)))
        return counts == self.counts and tuple(2**option for option in range(len(self.strides))) == self.strides

    def _run(self, x: Tensor | Compact, choice: Choice) -> Compact:
        """What the samples of `x` all follow."""
        channel = choice.channel if len(self.counts) > 1 else None
        temporal = choice.temporal if len(self.strides) > 1 else None
        top = channel.options[0] if channel else 0
        found = self.conv.part(x, self.counts[top], self.strides[temporal.options[0] if temporal else 0])
        if self.act is not None:
            found.computed = self.act(found.computed)
        if channel and len(channel.options) > 1:
            self._mix_channels(found, channel)
        elif top:
            found.scale = self.scales[top - 1]
        if temporal and len(temporal.options) > 1:
            # Frames that are copies as they come in stay as they are under options that copy no further than that.
            periods = [max(1, self.strides[option] // found.copies) for option in temporal.options]
            if max(periods) > 1:
                found.computed = mix_frames(found.computed, periods, temporal.shares)
        found.computed = scaled(found.computed, [side.total for side in (channel, temporal) if side])
        return found

    def _mix_channels(self, found: Compact, side: Side) -> None:
        counts = [self.counts[option] for option in side.options]
        scales = [self.scales[option - 1] if option else None for option in side.options]
        found.computed = mix_channels(found.computed, counts, scales, side.shares, self.counts[0])


def _plain(found: Compact) -> Tensor | Compact:
    """What stands for nothing else as itself: torch's own operations on it take fewer steps."""
    return found.computed if found.complete else found
