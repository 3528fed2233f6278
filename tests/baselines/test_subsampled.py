"""The static network on fewer frames: which ones, and what they cost."""

from __future__ import annotations

import pytest
import torch

from baselines.subsampled import subsampled
from bench.conformance import check
from bench.cost import count_meta
from bench.method import Batch, Recipe

SMALL = {"width": 8, "blocks": (1, 1, 1, 1)}


@pytest.mark.parametrize(("share", "rows"), [(1.0, [*range(8)]), (0.75, [0, 2, 3, 4, 6, 7]), (0.5, [1, 3, 5, 7])])
def test_frames_are_evenly_spread_and_the_others_change_nothing(share: float, rows: list[int]) -> None:
    method = subsampled("r2plus1d_18", frames=8, size=16, classes=3, network_options=SMALL, share=share).eval()
    assert method.rows == rows
    clip = torch.randn(2, 3, 8, 16, 16)
    changed = clip.clone()
    changed[:, :, [frame for frame in range(8) if frame not in rows]] = 7.0
    assert torch.equal(method(clip).logits, method(changed).logits)
    assert method.macs == count_meta(method.network, (1, 3, len(rows), 16, 16)).macs
    assert check(method, clip) == []


def test_a_step_of_training_sees_the_same_frames() -> None:
    method = subsampled("r2plus1d_18", frames=4, size=16, classes=3, network_options=SMALL, share=0.5)
    seen: list[torch.Size] = []
    method.network.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape))
    stage = method.stages(Recipe(epochs=1))[0]
    stage.begin(1)
    stage.step(Batch(torch.randn(4, 3, 4, 16, 16), torch.tensor([0, 1, 2, 0]), torch.arange(4)))
    assert seen == [torch.Size([4, 3, 2, 16, 16])]


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        subsampled("r2plus1d_18", frames=4, size=16, classes=3, network_options=SMALL, share=share)
