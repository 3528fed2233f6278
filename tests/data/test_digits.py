"""The moving digits: what is stored about a video is found again in its pixels."""

from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, spearmanr

from bench.data import DataError, Dataset
from bench.data import digits as module
from bench.data.digits import CLASSES, DIRECTIONS, DigitsSplit, digits, travelled

SMALL = {"train_videos": 60, "validation_videos": 30, "test_videos": 50}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> DigitsSplit:
    """Digits alone: nothing else moves, nothing is random, and all are small enough to stay inside the frame."""
    settings: dict[str, object] = {"BACKGROUND": 0.2, "INK": 1.0, "OBJECT": (0.02, 0.04), "DISTRACTORS": 0}
    settings |= {"NOISE": (0.0, 0.0), "TEXTURE": 0.0, "DRIFT": 0.0}
    for name, value in settings.items():
        monkeypatch.setattr(module, name, value)
    split = digits(size=64, train_videos=120, validation_videos=1, test_videos=1).train
    assert isinstance(split, DigitsSplit)
    return split


def coverage(split: DigitsSplit, index: int) -> np.ndarray:
    """What the digit covers of each pixel, read off a `plain` video, (T, H, W)."""
    grey = split.video(index)[..., 0].numpy() / 255
    return (grey - module.BACKGROUND) / (module.INK - module.BACKGROUND)


def centroids(cover: np.ndarray) -> np.ndarray:
    """Centre of mass (T, 2) as x, y."""
    cover = np.where(cover > 0.01, cover, 0)  # the rounding of an empty pixel
    mass = cover.sum((1, 2))
    x, y = np.arange(cover.shape[2]), np.arange(cover.shape[1])
    return np.stack([(cover.sum(1) * x).sum(1) / mass, (cover.sum(2) * y).sum(1) / mass], 1)


def direction(split: DigitsSplit, index: int) -> str:
    """The second word of the label."""
    return split.classes[split.targets[index]].split()[1]


def steps_of(split: DigitsSplit, index: int) -> np.ndarray:
    """Displacements (T - 1, 2) of a plain video's digit; those of jumps are NaN."""
    steps = np.diff(centroids(coverage(split, index)), axis=0)
    steps[np.abs(steps).max(1) > module.REACH * split.size] = np.nan
    return steps


def test_motion_in_the_pixels_is_the_stored_one(plain: DigitsSplit) -> None:
    for index in range(len(plain)):
        stored, steps = plain.attributes.iloc[index], steps_of(plain, index)
        moved = np.abs(steps).max(1) > 0.3
        expected = np.array(DIRECTIONS[direction(plain, index)]) * stored.speed
        np.testing.assert_allclose(steps[moved], np.broadcast_to(expected, steps[moved].shape), atol=0.1)
        np.testing.assert_allclose(steps[~moved & ~np.isnan(steps[:, 0])], 0, atol=0.02)


def test_every_clip_moves_as_often_as_stored(plain: DigitsSplit) -> None:
    for index in range(len(plain)):
        moved = np.abs(np.diff(coverage(plain, index), axis=0)).max((1, 2)) > 0.02
        clips = np.lib.stride_tricks.sliding_window_view(moved, plain.frames - 1)
        assert (clips.mean(1) == plain.attributes.moving_share[index]).all()


def test_object_share_is_the_covered_share(plain: DigitsSplit) -> None:
    for index in range(24):
        cover = coverage(plain, index).mean((1, 2))
        np.testing.assert_allclose(cover, plain.attributes.object_share[index], rtol=0.03)


def test_motion_is_the_mean_flow_of_the_pixels(plain: DigitsSplit) -> None:
    for index in range(len(plain)):
        # Over whole periods of stop and go; a jump stands for the step that it hides.
        speed = np.linalg.norm(steps_of(plain, index), axis=1)[:21]
        speed[np.isnan(speed)] = plain.attributes.speed[index]
        flow = coverage(plain, index).mean() * speed.mean()
        assert flow == pytest.approx(plain.attributes.motion[index], rel=0.05)


def test_drift_is_the_flow_of_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NOISE": (0.0, 0.0), "DISTRACTORS": 0, "OBJECT": (1e-4, 1e-4)}.items():
        monkeypatch.setattr(module, name, value)
    split = digits(size=64, **SMALL).train
    for index in range(12):
        video = split.video(index)[..., 0].numpy().astype(float)
        middle = (video[1:] + video[:-1]) / 2
        dy, dx = (slope.ravel() for slope in np.gradient(middle, axis=(1, 2)))
        flow = np.linalg.lstsq(np.stack([dx, dy], 1), -np.diff(video, axis=0).ravel(), rcond=None)[0]
        # Flow from finite differences of a piecewise linear texture: a tenth is its own error.
        assert np.linalg.norm(flow) == pytest.approx(split.attributes.drift[index], rel=0.1, abs=0.03)
        assert split.attributes.motion[index] == pytest.approx(split.attributes.drift[index], rel=0.01, abs=1e-3)


def test_noise_is_fixed_in_time_and_as_strong_as_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"TEXTURE": 0.0, "DISTRACTORS": 0, "BACKGROUND": 0.5, "INK": 0.5, "NOISE": (0.04, 0.10)}
    for name, value in settings.items():  # a digit that cannot be seen, and nothing saturates
        monkeypatch.setattr(module, name, value)
    split = digits(**SMALL).train
    for index in range(12):
        video = split.video(index)[..., 0].numpy() / 255
        assert video[0].std() == pytest.approx(split.attributes.noise[index], rel=0.12)
        assert (video == video[0]).all()


@given(st.integers(2, 40), st.data())
def test_every_clip_holds_the_same_number_of_moving_steps(frames: int, data: st.DataObject) -> None:
    moving = data.draw(st.integers(1, frames - 1))
    phase = data.draw(st.integers(0, frames - 2))
    start = data.draw(st.integers(0, 2 * frames))
    total = travelled(moving, phase, frames, 3 * frames)
    assert len(total) == 3 * frames and set(np.diff(total)) <= {0, 1}
    assert total[start + frames - 1] - total[start] == moving


@pytest.fixture(scope="module")
def large() -> Dataset:
    return digits(train_videos=4000, validation_videos=100, test_videos=4000)


def test_what_varies_is_independent_of_the_label_and_of_each_other(large: Dataset) -> None:
    table = large.test.attributes.drop(columns="motion")
    table["label"] = large.test.targets
    table["direction"] = large.test.targets % len(DIRECTIONS)
    pairs = [pair for pair in combinations(table, 2) if pair != ("label", "direction")]
    offenders = {pair: rho for pair in pairs if abs(rho := spearmanr(table[pair[0]], table[pair[1]])[0]) > 0.065}
    assert offenders == {}  # four standard errors
    assert abs(spearmanr(large.test.attributes.motion, large.test.targets)[0]) < 0.065


def test_no_single_frame_tells_the_direction(large: Dataset) -> None:
    split = large.train
    assert isinstance(split, DigitsSplit)
    reach = module.REACH * split.size
    for number, name in enumerate(DIRECTIONS):
        rows = np.flatnonzero(split.targets % len(DIRECTIONS) == number)
        places = np.stack([split.path(i)[:, 12] for i in rows])
        for axis in (0, 1):
            assert kstest(places[:, axis], "uniform", (-reach, 2 * reach)).pvalue > 1e-3, (name, axis)


def test_labels_and_sources_are_balanced(large: Dataset) -> None:
    for split in (large.train, large.validation, large.test):
        labels = np.bincount(split.targets, minlength=len(CLASSES))
        assert np.ptp(labels) <= 1 and tuple(split.classes) == CLASSES
        counts = Counter(split.groups)
        assert max(counts.values()) - min(counts.values()) <= 1
    pairs = Counter(zip(large.test.groups, large.test.targets, strict=True))
    assert len(pairs) == len(set(large.test.groups)) * len(DIRECTIONS)
    assert max(pairs.values()) - min(pairs.values()) <= 1


def test_no_source_digit_is_in_two_splits(large: Dataset) -> None:
    sources = [set(split.groups) for split in (large.train, large.validation, large.test)]
    assert all(first.isdisjoint(second) for first, second in combinations(sources, 2))
    assert len(sources[2]) >= 240


def test_distractors_come_from_other_digits_of_the_same_split() -> None:
    parts = module.digit_sources(0).values()
    pools = [{glyph.tobytes() for glyph in part.others} for part in parts]
    labelled = {glyph.tobytes() for part in parts for glyphs in part.glyphs.values() for glyph in glyphs}
    assert all(first.isdisjoint(second) for first, second in combinations([*pools, labelled], 2))


def test_a_video_depends_on_seed_split_and_number_only() -> None:
    first, longer = digits(**SMALL), digits(train_videos=90, validation_videos=31, test_videos=77)
    for name in ("train", "validation", "test"):
        few, many = getattr(first, name), getattr(longer, name)
        for index in (29, 0, 17):  # not in order
            assert torch.equal(few.video(index), many.video(index))
        pd.testing.assert_frame_equal(few.attributes, many.attributes.iloc[: len(few)])
        assert (few.targets == many.targets[: len(few)]).all() and (few.groups == many.groups[: len(few)]).all()
    videos = [first.train.video(0), first.train.video(24), first.test.video(0), digits(seed=1, **SMALL).train.video(0)]
    assert not any(torch.equal(a, b) for a, b in combinations(videos, 2))


def test_a_caller_cannot_change_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    split = digits(**SMALL).train
    before = split.video(3).clone()
    split.video(3).zero_()
    assert torch.equal(split.video(3), before)
    monkeypatch.setattr(module, "CACHE_BYTES", 0)
    assert torch.equal(digits(**SMALL).train.video(3), before)


CHANGES = {"size": 33, "frames": 9, "train_videos": 61, "validation_videos": 31, "test_videos": 51, "seed": 1}


def test_the_fingerprint_follows_every_parameter() -> None:
    prints = [digits(**SMALL).fingerprint, *(digits(**{**SMALL, key: CHANGES[key]}).fingerprint for key in CHANGES)]
    assert len(set(prints)) == len(prints)
    assert digits(**SMALL).fingerprint == prints[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [("REVISION", 99), ("INK", 0.84), ("FRAGMENT", 0.64), ("TEXTURE", 0.11), ("NOISE", (0.0, 0.1)), ("DRIFT", 0.7)],
)
def test_the_fingerprint_shows_a_changed_generator(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    before = digits(**SMALL).fingerprint
    monkeypatch.setattr(module, name, value)
    assert digits(**SMALL).fingerprint != before


@pytest.mark.parametrize(("size", "frames"), [(64, 16), (32, 16), (16, 4), (50, 32), (32, 2)])
def test_any_size_and_number_of_frames(size: int, frames: int) -> None:
    dataset, base = digits(size=size, frames=frames, **SMALL), digits(**SMALL)
    split = dataset.train
    assert split.video(1).shape == (3 * frames, size, size + size // 4, 1) and split.video(1).dtype == torch.uint8
    # A clip shows the same action: what is travelled in a clip is the same share of the picture.
    scale = size / 32 * 8 / frames
    np.testing.assert_allclose(split.attributes.speed, base.train.attributes.speed * scale)
    np.testing.assert_allclose(split.attributes.drift, base.train.attributes.drift * scale)
    assert split.attributes.object_share.equals(base.train.attributes.object_share)
    assert (split.targets == base.train.targets).all()
    assert not split.flip


def test_a_frame_is_wider_than_the_crop_and_every_crop_shows_most_of_the_digit() -> None:
    split = digits(**SMALL).train
    assert isinstance(split, DigitsSplit)
    for index in range(len(split)):
        cover = split.digit(index)
        whole = split.attributes.object_share[index] * cover[0].size
        for left in (0, 4, 8):
            shown = cover[:, :, left : left + 32].sum((1, 2)) / whole
            assert shown.min() > 0.5 and shown.mean() > 0.8


@pytest.mark.parametrize(
    ("name", "value"), [("size", 15), ("frames", 1), ("seed", -1), ("train_videos", 0), ("test_videos", -3)]
)
def test_a_parameter_that_is_too_small_is_named(name: str, value: int) -> None:
    with pytest.raises(DataError, match=rf"digits: {name} must be at least \d+, not {value}"):
        digits(**{**SMALL, name: value})


@pytest.mark.parametrize("index", [-1, 60])
def test_a_video_that_does_not_exist_is_refused(index: int) -> None:
    with pytest.raises(DataError, match=f"train has no video {index}, only 0 to 59"):
        digits(**SMALL).train.video(index)
