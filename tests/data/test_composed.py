"""Composed actions: what the boxes, classes and attributes say is found again in the pixels."""

import os
import pickle
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ks_2samp

from bench.data import DataError, Dataset
from bench.data.composed.actors import Digits
from bench.data.composed.builder import SPLITS, composed
from bench.data.composed.videos import HIDDEN, SEEN, WIDEST, Videos
from bench.data.digits import CLASSES, DIRECTIONS, digit_sources
from bench.data.key_frames import KeyFrames, no_skill
from bench.data.sampling import Sampling, train_batches
from bench.method import InputSpec

SMALL = {"train_videos": 48, "validation_videos": 24, "test_videos": 24, "frames": 8, "size": 64}
HEADER = "path,cls,sequence,fold,width,height"


def videos(split: KeyFrames) -> Videos:
    return split.clip.__self__


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> KeyFrames:
    """Actors alone before a flat grey."""
    for name, value in {"BACKGROUND": 0.2, "TEXTURE": 0.0, "NOISE": (0.0, 0.0)}.items():
        monkeypatch.setattr(f"bench.data.composed.videos.{name}", value)
    split = composed(**{**SMALL, "train_videos": 72}).train
    videos(split).shown[:] = False
    return split


def drawn(split: KeyFrames, row: int) -> np.ndarray:
    """Where a plain clip differs from its grey, (T, H, W)."""
    return split.video(row)[..., 0].numpy() != round(0.2 * 255)


def rectangle(mask: np.ndarray) -> list[int]:
    """The tight x1, y1, x2, y2 of a mask, empty where nothing is set."""
    y, x = np.nonzero(mask)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else []


def test_boxes_are_tight_around_the_ink_to_the_pixel(plain: KeyFrames) -> None:
    for row in range(len(plain)):
        assert rectangle(drawn(plain, row)[-1]) == plain.annotation(row)[:, :4].flatten().tolist()


def test_a_row_without_a_box_is_counted_and_shows_no_actor_at_its_end(plain: KeyFrames) -> None:
    empty = [row for row in range(len(plain)) if not len(plain.annotation(row))]
    assert 0.03 < len(empty) / len(plain) < 0.2
    assert any(drawn(plain, row).any() for row in empty)  # the action may have been on before
    assert all(plain.targets[row] == 0 and plain.annotation(row).shape == (0, 5) for row in empty)


def test_the_class_names_the_way_that_the_ink_goes(plain: KeyFrames) -> None:
    moved = 0
    for row in range(len(plain)):
        corners = [rectangle(frame) for frame in drawn(plain, row)]
        inside = [c for c in corners if c and min(c) > 0 and max(c) < 64]
        if not len(plain.annotation(row)) or len(inside) < 2:
            continue
        way = np.subtract(inside[-1], inside[0])[:2] / (len(inside) - 1)
        expected = np.array(DIRECTIONS[plain.classes[plain.targets[row]].split()[1]]) * plain.attributes.speed[row]
        np.testing.assert_allclose(way, expected, atol=1 / (len(inside) - 1) + 1e-9)
        moved += 1
    assert moved > 40


def test_the_stored_shares_and_motion_are_those_of_the_pixels(plain: KeyFrames) -> None:
    own = videos(plain)
    own.drift[:] = 0
    table = own._attributes()
    for row in range(len(plain)):
        box = plain.boxes[row]
        area = float(((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).sum()) / 64**2
        assert table.object_share[row] == pytest.approx(area)
        video, last = own.video[row], own.key[row]
        on = [own.begin[video] <= t < own.end[video] for t in range(last - 7, last + 1)]
        assert table.seen[row] == np.mean(on)
        inked = drawn(plain, row).any((1, 2))
        assert not (inked & ~np.array(on)).any()
        if area:
            assert table.seen[row] >= SEEN and inked[-4:].all()


def sides(own: Videos, video: int, number: int) -> np.ndarray:
    """Width and height of a distractor."""
    return np.array([own.other_widths[video, number], own.other_heights[video, number]])


def test_motion_adds_up_what_moves() -> None:
    split = composed(**SMALL).train
    own, times = videos(split), np.arange(200)
    for row in range(0, len(split), 7):
        video, left, flow = own.video[row], 1.0, 0.0
        for number in np.flatnonzero(own.shown[video]):
            steps = np.diff(own._way(own._paths[video, number], sides(own, video, number), times), axis=0)
            assert (np.count_nonzero(steps.any(0)) == 1) and np.abs(steps).max() <= np.ceil(0.3 * 64 / 7)
            share = sides(own, video, number).prod() / 64**2
            flow, left = flow + np.abs(steps).sum(1).mean() * share, left - share
        share = own.heights[video] * own.widths[video] / 64**2 * split.attributes.seen[row]
        flow += share * split.attributes.speed[row] + (left - share) * split.attributes.drift[row]
        assert split.attributes.motion[row] == pytest.approx(flow, rel=0.15)


def test_distractors_are_there_and_hide_next_to_nothing_of_the_actor() -> None:
    split = composed(**SMALL).train
    own, found = videos(split), 0
    for row in np.flatnonzero([len(box) > 0 for box in split.boxes]):
        clip, video = split.video(row)[..., 0], own.video[row]
        others = int(own.shown[video].sum())
        assert others == split.attributes.distractors[row]
        shown, own.shown[video] = own.shown[video].copy(), False
        changed = (split.video(row)[..., 0] != clip).numpy()
        own.shown[video] = shown
        assert changed.any((1, 2)).all() == (others > 0) == changed.any()
        x1, y1, x2, y2 = split.boxes[row][0, :4].astype(int)
        assert changed[-1, y1:y2, x1:x2].mean() <= HIDDEN * others
        found += others > 0
    assert found > 0.6 * len(split)


def test_pieces_are_of_digits_of_no_class_of_the_same_split() -> None:
    dataset, sources = composed(**SMALL), digit_sources(0)
    for name in SPLITS:
        pool = {image.tobytes() for image in sources[name].others}
        quarters = videos(getattr(dataset, name)).actors._quarters.reshape(-1, 25, 4, 4)
        assert {np.block([[q[0], q[4]], [q[20], q[24]]]).tobytes() for q in quarters} == pool


def test_no_single_frame_tells_the_direction() -> None:
    split = composed(**{**SMALL, "train_videos": 1200, "empty": 0.0}).train
    way = split.targets % len(DIRECTIONS)
    middle = np.array([(box[0, :2] + box[0, 2:4]) / 2 for box in split.boxes])
    for first, second, axis in ((0, 1, 0), (2, 3, 1)):
        assert ks_2samp(middle[way == first, axis], middle[way == second, axis]).pvalue > 1e-3


def test_labels_are_balanced_and_no_source_is_in_two_splits() -> None:
    dataset = composed(**{**SMALL, "empty": 0.0})
    for split in (dataset.train, dataset.validation, dataset.test):
        assert set(np.bincount(split.targets, minlength=12)) == {len(split) // 12}
        assert tuple(split.classes) == CLASSES and split.task == "boxes" and not split.flip
        counts = Counter(split.groups)
        assert max(counts.values()) - min(counts.values()) <= 2  # rows of a video
    groups = [set(split.groups) for split in (dataset.train, dataset.validation, dataset.test)]
    assert all(first.isdisjoint(second) for first, second in combinations(groups, 2))


def test_sizes_and_places_keep_to_what_is_stated() -> None:
    split = composed(**{**SMALL, "train_videos": 300}).train
    boxes = np.concatenate(split.boxes)
    heights, widths = boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]
    low, high = Digits.heights
    assert boxes[:, :4].min() >= 0 and boxes[:, :4].max() <= 64 and widths.max() <= round(WIDEST * 64)
    assert heights.min() >= round(low * 64) and heights.max() <= round(high * 64) and np.ptp(heights) > 10
    assert len({(x, y) for x, y in boxes[:, :2].tolist()}) > 200  # all over the place
    assert split.attributes.object_share[split.attributes.object_share > 0].between(0.005, 0.2).all()


def test_a_row_depends_on_seed_split_and_number_only_and_rows_of_a_video_agree() -> None:
    first, longer = composed(**SMALL), composed(**{**SMALL, "train_videos": 60, "validation_videos": 25})
    for name in ("train", "validation"):
        few, many = getattr(first, name), getattr(longer, name)
        for row in (40, 0, 17):
            assert torch.equal(few.video(row), many.video(row)) and torch.equal(few.video(row), few.video(row))
            assert torch.equal(few.annotation(row), many.annotation(row))
        pd.testing.assert_frame_equal(few.attributes, many.attributes.iloc[: len(few)])
    assert not torch.equal(first.train.video(0), composed(**{**SMALL, "seed": 1}).train.video(0))
    keys = videos(first.train).key
    for row in range(0, 40, 2):  # both key frames of a video
        later = keys[row + 1] - keys[row]
        if 0 < later < 8:
            assert torch.equal(first.train.video(row)[later:], first.train.video(row + 1)[: 8 - later])
    assert (keys[1::2] != keys[::2]).all()


def test_the_fingerprint_follows_every_parameter() -> None:
    changes = {"train_videos": 49, "validation_videos": 25, "test_videos": 25, "frames": 10, "size": 65}
    changes |= {"key_frames": 1, "empty": 0.2, "seed": 1}
    prints = [composed(**{**SMALL, key: value}).fingerprint for key, value in changes.items()]
    assert len({composed(**SMALL).fingerprint, *prints}) == len(prints) + 1
    assert composed(**SMALL).fingerprint == composed(**SMALL).fingerprint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("builder.REVISION", 99),
        ("actors.INK", 0.84),
        ("videos.TEXTURE", 0.1),
        ("videos.HIDDEN", 0.0),
        ("videos.TRAVEL", (0.1, 0.2)),
        ("videos.NOISY", 0.9),
    ],
)
def test_the_fingerprint_shows_a_changed_generator(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    before = composed(**SMALL).fingerprint
    monkeypatch.setattr(f"bench.data.composed.{name}", value)
    assert composed(**SMALL).fingerprint != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 31}, "composed: size must be at least 32, not 31"),
        ({"frames": 3}, "composed: frames must be at least 4, not 3"),
        ({"test_videos": 0}, "composed: test_videos must be at least 1, not 0"),
        ({"key_frames": 5}, "composed: key_frames must be at most 4, half of the frames, not 5"),
        ({"empty": 1.0}, "composed: empty must be at least 0 and less than 1, not 1.0"),
        ({"source": "ut_interaction"}, "ut_interaction: needs a data root"),
    ],
)
def test_a_parameter_out_of_range_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        composed(**{**SMALL, **options})


@pytest.mark.parametrize("row", [-1, 96])
def test_a_row_that_does_not_exist_is_refused(row: int) -> None:
    split = composed(**SMALL).train
    for call in (split.video, split.annotation):
        with pytest.raises(DataError, match=f"composed, train: has no key frame {row}, only 0 to 95"):
            call(row)


@pytest.mark.parametrize(("size", "frames", "key_frames"), [(32, 4, 2), (50, 9, 4), (96, 16, 1)])
def test_any_size_and_length(size: int, frames: int, key_frames: int) -> None:
    split = composed(size=size, frames=frames, key_frames=key_frames, train_videos=12, **OTHERS).train
    assert len(split) == 12 * key_frames == len(split.attributes) == len(split.groups)
    assert all(split.video(row).shape == (frames, size, size, 1) for row in range(len(split)))
    assert split.video(0).dtype == torch.uint8


OTHERS = {"validation_videos": 3, "test_videos": 3}


def test_batches_hold_the_boxes_and_a_caller_cannot_change_them() -> None:
    split = pickle.loads(pickle.dumps(composed(**SMALL).train))  # as a loader's worker gets it
    batch = next(train_batches(split, InputSpec("clip", 64, 8, channels=1), Sampling(), 8, 0, 0))
    assert batch.sample.shape == (8, 1, 8, 64, 64)
    for row, boxes in zip(batch.index.tolist(), batch.target, strict=True):
        assert torch.equal(boxes, split.annotation(row))
        split.annotation(row).zero_()
        assert torch.equal(boxes, split.annotation(row))


# --- real clips


@pytest.fixture
def interaction(make_video, tmp_path: Path) -> Path:
    """A data root with ut_interaction in small: flat frames of 20, 28, ... grey, 4:3, two classes in three folds."""
    rows = [(f"{name}/{fold}.mp4", name, fold + 1, fold) for fold in range(3) for name in ("hug", "kick")]
    for path, *_ in rows:
        make_video(tmp_path / "ut_interaction" / path, [round(1000 * i / 15) for i in range(24)], 64, 48)
    lines = [HEADER, *(",".join(map(str, [*row, 64, 48])) for row in rows)]
    (tmp_path / "ut_interaction" / "clips.csv").write_text("\n".join(lines))
    return tmp_path


def real(root: Path, **options: object) -> Dataset:
    return composed(**{**SMALL, "data_root": root, "source": "ut_interaction", "train_videos": 24, **options})


def test_a_real_clip_fills_its_box_and_runs_once_through_its_time(
    interaction: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BACKGROUND": 0.0, "TEXTURE": 0.0, "NOISE": (0.0, 0.0)}.items():
        monkeypatch.setattr(f"bench.data.composed.videos.{name}", value)
    split = real(interaction).train
    own = videos(split)
    own.shown[:] = False
    for row in range(len(split)):
        clip, box = split.video(row)[..., 0].numpy(), split.annotation(row)
        assert rectangle(clip[-1] > 8) == box[:, :4].flatten().tolist()
        if len(box):
            x1, y1, x2, y2 = (int(value) for value in box[0, :4])
            passed = (own.key[row] - own.begin[own.video[row]] + 0.5) / (own.end - own.begin)[own.video[row]]
            assert np.ptp(clip[-1, y1:y2, x1:x2].astype(int)) <= 2
            assert int(clip[-1, y1, x1]) == pytest.approx(20 + 8 * int(passed * 24), abs=12)
    assert (split.attributes.object_share > 0.05).any()
    gone = real(interaction, empty=0.99).test
    assert gone.attributes.seen.min() == 0 and not gone.video(int(gone.attributes.seen.argmin())).float().std() > 70


def test_real_clips_keep_their_folds_classes_and_groups(interaction: Path) -> None:
    dataset = real(interaction)
    assert [set(s.groups) for s in (dataset.train, dataset.validation, dataset.test)] == [{"3"}, {"2"}, {"1"}]
    assert tuple(dataset.test.classes) == ("hug", "kick") and dataset.train.flip
    assert dataset.notes == ("coverage 6 of 6",)
    assert {split.video(0).shape for split in (dataset.train, dataset.test)} == {(8, 64, 64, 1)}
    before = dataset.fingerprint
    assert real(interaction).fingerprint == before != real(interaction, fold=1).fingerprint
    file = interaction / "ut_interaction" / "hug" / "0.mp4"
    file.write_bytes(file.read_bytes()[:-1] + b"!")  # as long as before
    assert real(interaction).fingerprint != before


def test_a_scrambled_clip_has_the_same_pixels_in_other_places(interaction: Path) -> None:
    actors = videos(real(interaction).train).actors
    frames = torch.arange(48 * 64, dtype=torch.int32).remainder(251).to(torch.uint8).view(1, 48, 64)
    actors._kept = dict.fromkeys(range(2), frames)
    grey, cover = actors.pieces(np.random.default_rng(0), 48, 64, np.zeros(1))
    mixed = np.rint(grey * 255).astype(np.uint8)
    assert (np.sort(mixed, None) == np.sort(frames.numpy(), None)).all() and (mixed != frames.numpy()).mean() > 0.5
    tiles = {frames[0, y : y + 12, x : x + 16].numpy().tobytes() for y in range(0, 48, 12) for x in range(0, 64, 16)}
    assert {mixed[0, y : y + 12, x : x + 16].tobytes() for y in range(0, 48, 12) for x in range(0, 64, 16)} == tiles
    assert cover.all()


def test_a_list_without_sizes_is_refused(interaction: Path) -> None:
    file = interaction / "ut_interaction" / "clips.csv"
    file.write_text(file.read_text().replace("height", "tall"))
    with pytest.raises(DataError, match="has no columns width and height"):
        real(interaction)


@pytest.mark.skipif(
    not (Path(os.environ.get("VARED_DATA", "")) / "ut_interaction" / "clips.csv").is_file(),
    reason="VARED_DATA names no folder with ut_interaction/",
)
def test_the_real_set_is_composed() -> None:
    dataset = real(Path(os.environ["VARED_DATA"]), size=96)
    assert len(dataset.train.classes) == 6 and dataset.notes == ("coverage 120 of 120",)
    assert set(dataset.test.groups) == {"1", "11"} and set(dataset.validation.groups) == {"2", "12"}
    assert dataset.test.video(0).float().std() > 5


# --- what can be answered blind


def rows_of(boxes: list[list[list[float]]]) -> KeyFrames:
    arrays = [np.array(row, np.float32).reshape(-1, 5) for row in boxes]
    table = pd.DataFrame(index=range(len(boxes)))
    return KeyFrames("made", lambda row: torch.zeros(1), arrays, ("a", "b"), np.array(["g"] * len(boxes)), table, True)


def test_blind_answers_are_the_mean_the_best_and_the_best_few_training_boxes() -> None:
    near, moved, far = [0, 0, 10, 10, 0], [1, 0, 11, 10, 0], [50, 50, 60, 60, 0]
    split = rows_of([[near], [moved], [near, far], [], [[2, 2, 8, 8, 1]]])
    found = no_skill(split)
    np.testing.assert_allclose(found["mean"], [[12.75, 12.5, 22.75, 22.5, 1, 0.8, 0], [2, 2, 8, 8, 1, 0.2, 1]])
    np.testing.assert_allclose(found["best"], [[0, 0, 10, 10, 0.75, 0.8, 0], [2, 2, 8, 8, 1, 0.2, 1]])
    np.testing.assert_allclose(found["places"][1], [50, 50, 60, 60, 0.25, 0.8, 0])
    assert len(found["places"]) == 3
    with pytest.raises(DataError, match="no training row has a box"):
        no_skill(rows_of([[], []]))
