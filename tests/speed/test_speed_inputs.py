"""Inputs: real clips, never one of the warm-up, never one twice, and always a copy."""

from __future__ import annotations

import itertools

import pytest
import torch
from toys import Segmenter, Sequence_, Toy, ToySplit

from bench.data.sampling import Sampling, test_batches
from bench.method import InputSpec
from bench.policy import Forced, Learned
from bench.speed import inputs
from bench.speed.inputs import Inputs, choose, laid_out, placed
from bench.speed.record import SpeedError

CPU = torch.device("cpu")


def of(spec: InputSpec = Toy.spec, batch: int = 3, videos: int = 12, clips: int = 100) -> Inputs:
    return Inputs(choose(ToySplit(videos), [spec], clips, 0), spec, Sampling(), batch, CPU)


@pytest.mark.parametrize("spec", [Toy.spec, Sequence_.spec, Segmenter.spec])
def test_samples_are_the_centre_clips_of_the_videos(spec: InputSpec) -> None:
    found = of(spec)
    rows = found.videos.timed[:3]
    (wanted,) = test_batches(found.videos.split, spec, Sampling(), 1, 1, 3, rows)
    assert torch.equal(found.dealt(0, "timed"), wanted.sample) and torch.equal(found.decoded(0), wanted.sample)
    assert wanted.sample.shape == spec.shape(3)


def test_warm_up_and_timing_share_no_video() -> None:
    videos = choose(ToySplit(12), [Toy.spec], 100, 0)
    assert sorted([*videos.warm, *videos.timed]) == list(range(12)) and len(videos.warm) == 3
    assert len(choose(ToySplit(2), [Toy.spec], 1, 0).warm) == 1
    assert [len(choose(ToySplit(400), [Toy.spec], clips, 0).timed) for clips in (30, 300)] == [30, 300]
    with pytest.raises(SpeedError, match="a split of 1 videos cannot be parted"):
        choose(ToySplit(1), [Toy.spec], 8, 0)


def test_videos_are_no_more_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "POOL_BYTES", 8 * 4 * 3 * 4 * 8 * 8)
    videos = choose(ToySplit(24), [Toy.spec], 1000, 0)
    assert len(videos.warm) + len(videos.timed) == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_sample_comes_twice(dtype: torch.dtype) -> None:
    found = of(batch=4)  # nine videos to be timed
    samples = [laid_out(found.dealt(number, "timed"), dtype, True)[row] for number in range(8) for row in range(4)]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(samples, 2))
    assert torch.allclose(samples[27].float(), samples[0].float() * inputs.DIMMED**3, rtol=0.02)


def test_what_is_read_in_time_is_what_is_dealt_and_darkens_as_it_comes_again() -> None:
    found = of(batch=4)  # nine videos to be timed
    for number in range(8):
        assert torch.equal(found.decoded(number), found.dealt(number, "timed"))
    assert torch.equal(found.decoded(2)[1], found.decoded(0)[0] * inputs.DIMMED)


def test_every_call_gives_a_copy() -> None:
    found = of()
    one, other = found.dealt(1, "timed"), found.dealt(1, "timed")
    assert torch.equal(one, other) and one.data_ptr() != other.data_ptr()
    one.zero_()
    assert torch.equal(found.dealt(1, "timed"), other)


def test_positions_go_through_the_draws_one_by_one() -> None:
    found = of(batch=3)
    assert torch.cat([found.positions(number) for number in range(5)]).tolist() == list(range(15))


def test_layout_and_precision_are_those_asked_for() -> None:
    sample = of().dealt(0, "timed")
    assert laid_out(sample, torch.float32, False).is_contiguous()
    assert laid_out(sample, torch.bfloat16, True).is_contiguous(memory_format=torch.channels_last_3d)
    method, forced = Toy(), Forced({"x": torch.ones(2, 3)})
    assert isinstance(placed(Learned(), method, torch.bfloat16), Learned)
    there = placed(forced, method, torch.bfloat16)
    assert isinstance(there, Forced) and there.trace["x"].dtype == torch.bfloat16
