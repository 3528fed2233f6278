"""Clips are checked by their content: in these videos a pixel's channels are its own (frame, y, x)."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data import DataError
from bench.data.sampling import Sampling, test_batches, train_batches, train_steps
from bench.method import InputSpec


class Coordinates:
    """Videos (T, H, W, 3) of the given sizes whose pixels say where they are."""

    classes = ("a", "b")

    def __init__(self, sizes, flip=False, channels=3):
        self.sizes, self.flip, self.channels = sizes, flip, channels
        self.targets = np.arange(len(sizes)) % 2
        self.groups = np.arange(len(sizes)).astype(str)
        self.attributes = pd.DataFrame(index=range(len(sizes)))
        self.read = Counter()

    def __len__(self):
        return len(self.sizes)

    def video(self, index):
        self.read[index] += 1
        axes = torch.meshgrid(*(torch.arange(n, dtype=torch.uint8) for n in self.sizes[index]), indexing="ij")
        return torch.stack(axes[: self.channels], -1)


def spec(frames=4, size=6, kind="clip", **more):
    return InputSpec(kind, size, frames, mean=0.0, std=1 / 255, **more)


def frames_of(sample):
    """Frame numbers (T,) of a clip (C, T, H, W), which must be the same all over each frame."""
    plane = sample[0].flatten(1)
    assert (plane == plane[:, :1]).all()
    return plane[:, 0].round().int().tolist()


def corner_of(sample):
    """The crop's (y, x), checked to be one contiguous square in every frame."""
    size = sample.shape[-1]
    y, x = sample[1, 0, 0, 0].round(), sample[2, 0, 0].min().round()
    assert torch.allclose(sample[1], (y + torch.arange(size))[:, None].expand_as(sample[1]), atol=1e-3)
    columns = (x + torch.arange(size)).expand_as(sample[2])
    assert torch.allclose(sample[2], columns, atol=1e-3) or torch.allclose(sample[2], columns.flip(-1), atol=1e-3)
    return int(y), int(x)


def mirrored(sample):
    return bool(sample[2, 0, 0, 0] > sample[2, 0, 0, -1])


def train(split, what=None, sampling=None, batch=4, seed=0, epoch=0, **more):
    return list(train_batches(split, what or spec(), sampling or Sampling(), batch, seed, epoch, **more))


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a.sample, b.sample) and torch.equal(a.target, b.target) and torch.equal(a.index, b.index)
        for a, b in zip(left, right, strict=True)
    )


def test_an_epoch_visits_every_video_once_and_drops_the_incomplete_batch():
    split = Coordinates([(9, 8, 10)] * 11)
    batches = train(split)
    index = torch.cat([b.index for b in batches])
    assert train_steps(split, 4) == len(batches) == 2
    assert len(set(index.tolist())) == 8
    for b in batches:
        assert b.sample.shape == spec().shape(4) and b.sample.dtype == torch.float32 and b.sample.is_contiguous()
        assert b.target.dtype == b.index.dtype == torch.int64
        assert torch.equal(b.target, b.index % 2)


@pytest.mark.parametrize("mode", ["dense", "uniform"])
@pytest.mark.parametrize("skip", [0, 1, 3, 5])
def test_a_resumed_epoch_gives_the_batches_that_were_left_and_decodes_no_others(mode, skip):
    whole = train(Coordinates([(20, 9, 12)] * 21, flip=True), sampling=Sampling(mode), seed=3, epoch=7)
    split = Coordinates([(20, 9, 12)] * 21, flip=True)
    rest = train(split, sampling=Sampling(mode), seed=3, epoch=7, skip=skip)
    assert same(whole[skip:], rest)
    assert split.read.total() == 4 * (5 - skip)


def test_a_videos_choices_depend_on_seed_epoch_and_row_only():
    split = Coordinates([(20, 9, 12)] * 24, flip=True)
    by_row = [
        {int(i): x for b in train(split, batch=size) for i, x in zip(b.index, b.sample, strict=True)} for size in (4, 8)
    ]
    assert all(torch.equal(by_row[0][row], by_row[1][row]) for row in range(24))
    assert not same(train(split), train(split, epoch=1))
    assert not same(train(split), train(split, seed=1))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generators_are_left_alone(workers):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    train(Coordinates([(9, 8, 10)] * 8), workers=workers)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()


def test_workers_change_nothing():
    split = Coordinates([(20, 9, 12)] * 12, flip=True)
    assert same(train(split), train(split, workers=1))


def test_training_reaches_every_start_every_crop_and_both_mirrorings():
    split = Coordinates([(7, 7, 8)] * 40, flip=True)
    samples = [x for epoch in range(5) for b in train(split, epoch=epoch, batch=40) for x in b.sample]
    starts = Counter(frames_of(x)[0] for x in samples)
    assert set(starts) == {0, 1, 2, 3}  # 7 frames hold a clip of 4 at 4 places
    assert min(starts.values()) > 25  # of 200: each is expected 50 times, deviation 6.1
    assert {corner_of(x) for x in samples} == {(y, x) for y in range(2) for x in range(3)}
    assert 60 < sum(map(mirrored, samples)) < 140


def test_a_split_whose_labels_do_not_stand_mirroring_is_never_mirrored():
    assert not any(mirrored(x) for b in train(Coordinates([(9, 8, 10)] * 40)) for x in b.sample)


@given(length=st.integers(1, 40), stride=st.integers(1, 4), frames=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_dense_clips_are_consecutive_and_end_on_the_last_frame_where_the_video_is_short(length, stride, frames):
    (batch,) = train(Coordinates([(length, 6, 6)] * 4), spec(frames), Sampling("dense", stride))
    for sample in batch.sample:
        chosen = frames_of(sample)
        assert chosen == [min(chosen[0] + i * stride, length - 1) for i in range(frames)]
        assert chosen[0] <= max(length - ((frames - 1) * stride + 1), 0)


@given(length=st.integers(1, 40), frames=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_uniform_clips_take_one_frame_of_each_segment(length, frames):
    split, sampling = Coordinates([(length, 6, 6)] * 4), Sampling("uniform")
    (batch,) = train(split, spec(frames), sampling)
    (test,) = test_batches(split, spec(frames), sampling, 1, 1, 4)
    for sample in [*batch.sample, *test.sample]:
        for part, frame in enumerate(frames_of(sample)):
            if length >= frames:
                assert part * length // frames <= frame < (part + 1) * length // frames
            else:
                assert frame == min(part, length - 1)


@given(length=st.integers(1, 60), clips=st.integers(1, 12), stride=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_test_clips_are_even_and_touch_both_ends(length, clips, stride):
    views = test_batches(Coordinates([(length, 6, 6)]), spec(), Sampling("dense", stride), clips, 1, 100)
    starts = [frames_of(x)[0] for b in views for x in b.sample]
    last = max(length - (3 * stride + 1), 0)
    assert len(starts) == clips
    if clips == 1:
        assert starts == [(last + 1) // 2]
    else:
        gaps = np.diff(starts)
        assert starts[0] == 0 and starts[-1] == last
        assert gaps.min() >= 0 and gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("size", "corners"),
    [((8, 15), [(1, 0), (1, 5), (1, 9)]), ((15, 8), [(0, 1), (5, 1), (9, 1)]), ((6, 6), [(0, 0)] * 3)],
)
def test_three_crops_lie_along_the_longer_side(size, corners):
    split = Coordinates([(9, *size)], flip=True)
    (three,) = test_batches(split, spec(), Sampling(), 1, 3, 8)
    (one,) = test_batches(split, spec(), Sampling(), 1, 1, 8)
    assert [corner_of(x) for x in three.sample] == corners
    assert corner_of(one.sample[0]) == corners[1]
    assert not any(mirrored(x) for x in three.sample)


def test_views_of_a_video_follow_one_another_and_name_its_row():
    split = Coordinates([(9, 8, 10), (12, 8, 10), (5, 8, 10)])
    batches = list(test_batches(split, spec(), Sampling(), 2, 3, 4, rows=np.array([2, 0])))
    assert [len(b.index) for b in batches] == [4, 4, 4]
    assert torch.cat([b.index for b in batches]).tolist() == [2] * 6 + [0] * 6
    samples = torch.cat([b.sample for b in batches])[6:]
    assert [frames_of(x)[0] for x in samples] == [0, 0, 0, 5, 5, 5]
    assert [corner_of(x)[1] for x in samples] == [0, 2, 4, 0, 2, 4]
    everything = list(test_batches(split, spec(), Sampling(), 1, 1, 2))
    assert [b.index.tolist() for b in everything] == [[0, 1], [2]]


def test_clip_sequences_share_a_crop_and_spread_over_the_video():
    what = spec(frames=2, kind="clips", clips=3)
    split = Coordinates([(30, 9, 12)] * 8)
    (train_batch,) = train(split, what, batch=8)
    (test_batch,) = test_batches(split, what, Sampling(), 1, 1, 8)
    assert train_batch.sample.shape == (8, 3, 3, 2, 6, 6)
    for sequence in [*train_batch.sample, *test_batch.sample]:
        assert len({corner_of(clip) for clip in sequence}) == 1
        for part, clip in enumerate(sequence):
            first, second = frames_of(clip)
            assert second == first + 1
            assert part * 29 // 3 <= first < (part + 1) * 29 // 3  # 29 possible starts in 3 equal parts
    (uniform,) = test_batches(split, what, Sampling("uniform"), 1, 1, 8)
    assert [frame for clip in uniform.sample[0] for frame in frames_of(clip)] == [2, 7, 12, 17, 22, 27]


def test_an_image_is_one_frame():
    (batch,) = test_batches(Coordinates([(9, 8, 10)]), spec(kind="image"), Sampling(), 1, 1, 8)
    assert batch.sample.shape == (1, 3, 6, 6)
    assert frames_of(batch.sample[0][:, None]) == [4]


def test_pixels_are_normalised_and_grey_is_repeated():
    what = InputSpec("clip", 6, 4, mean=0.4, std=0.2)
    (batch,) = test_batches(Coordinates([(4, 6, 6)], channels=1), what, Sampling(), 1, 1, 1)
    expected = (torch.arange(4) / 255 - 0.4) / 0.2
    assert batch.sample.is_contiguous()
    assert torch.allclose(batch.sample, expected[:, None, None].expand(1, 3, 4, 6, 6), atol=1e-6)
    one = InputSpec("clip", 6, 4, channels=1)
    (batch,) = test_batches(Coordinates([(4, 6, 6)], channels=1), one, Sampling(), 1, 1, 1)
    assert batch.sample.shape == (1, 1, 4, 6, 6)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_video_smaller_than_the_crop_is_one_line_that_names_its_row(workers):
    split = Coordinates([(9, 8, 10), (9, 5, 10)])
    with pytest.raises(DataError, match=r"video 1 .*10x5") as caught:
        list(test_batches(split, spec(), Sampling(), 1, 1, 1, workers=workers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda split: Sampling("dens"),
        lambda split: Sampling("dense", 0),
        lambda split: train_steps(split, 3),
        lambda split: train_steps(split, 0),
        lambda split: train(split, batch=3),
        lambda split: list(test_batches(split, spec(), Sampling(), 0, 1, 1)),
        lambda split: list(test_batches(split, spec(), Sampling(), 1, 2, 1)),
        lambda split: list(test_batches(split, spec(channels=1), Sampling(), 1, 1, 1)),
    ],
)
def test_what_cannot_be_sampled_is_refused(call):
    with pytest.raises(DataError):
        call(Coordinates([(9, 8, 10)] * 2))
