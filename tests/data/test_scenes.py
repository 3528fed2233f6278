"""The generated scenes: the masks say what the pixels show, and nothing but the seed, the split and the row matters."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data import DataError, Dataset
from bench.data import scenes as module
from bench.data.scenes import CLASSES, OBJECTS, TEXTURES, ScenesSplit, border, scenes

SMALL = {"train_images": 24, "validation_images": 8, "test_images": 16}


@pytest.fixture(scope="module")
def small() -> Dataset:
    return scenes(**SMALL)


@pytest.fixture(scope="module")
def many() -> ScenesSplit:
    split = scenes(train_images=1, validation_images=1, test_images=400).test
    assert isinstance(split, ScenesSplit)
    return split


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> ScenesSplit:
    """Flat colours: a level is a texture's or an object's, and nothing else."""
    settings: dict[str, object] = {"SWING": (0.0, 0.0), "SHADE": 0.0, "CLUTTER": 0, "NOISE": (0.0, 0.0)}
    for name, value in settings.items():
        monkeypatch.setattr(module, name, value)
    split = scenes(**SMALL).train
    assert isinstance(split, ScenesSplit)
    return split


def test_rows_keep_the_contract(small: Dataset) -> None:
    for split, count in ((small.train, 24), (small.validation, 8), (small.test, 16)):
        assert len(split) == len(split.targets) == len(split.groups) == len(split.attributes) == count
        assert split.task == "masks" and not split.flip and tuple(split.classes) == CLASSES
        assert not split.targets.any() and split.targets.dtype == np.int64
        for index in range(count):
            picture, mask = split.video(index), split.annotation(index)
            assert picture.shape == (1, 73, 73, 3) and picture.dtype == torch.uint8
            assert mask.shape == (73, 73) and mask.dtype == torch.int64
            assert set(mask.unique().tolist()) <= {-1, *range(len(CLASSES))}


def test_a_colour_ends_where_its_class_does(plain: ScenesSplit) -> None:
    for index in range(len(plain)):
        picture, mask = plain.video(index)[0].long(), plain.annotation(index)
        backgrounds = [label for label in mask.unique().tolist() if 0 <= label < len(TEXTURES)]
        for label in backgrounds:
            assert len(picture[mask == label].unique(dim=0)) == 1
        layout = plain._layout(index, plain._generator(index))
        free = torch.from_numpy(~np.logical_or.reduce([one.mask for one in layout.objects]))
        for down in (True, False):
            first, second = (slice(None, -1), slice(1, None))
            one, other = ((first,), (second,)) if down else ((slice(None), first), (slice(None), second))
            same = (picture[one] == picture[other]).all(-1)
            known = free[one] & free[other] & (mask[one] >= 0) & (mask[other] >= 0)
            assert torch.equal(same[known], (mask[one] == mask[other])[known])


def test_an_object_is_one_colour_to_its_border(plain: ScenesSplit) -> None:
    for index in range(len(plain)):
        picture, mask = plain.video(index)[0].numpy(), plain.annotation(index).numpy()
        top = plain._layout(index, plain._generator(index)).objects[-1]  # nothing hides it
        assert (mask[top.mask] == top.label).all() and (mask[border(top.mask)] == -1).all()
        colours = np.unique(picture[top.mask], axis=0)
        assert len(colours) <= 1
        outside = picture[border(top.mask)]
        assert (outside != colours).any(1).mean() > 0.9 if len(outside) else True


def test_void_is_one_pixel_wide_and_only_around_objects(many: ScenesSplit) -> None:
    for index in range(40):
        mask, covered = many.masks[index], np.zeros((73, 73), bool)
        for one in many._layout(index, many._generator(index)).objects:
            covered |= one.mask | border(one.mask)
        assert not (mask[~covered] == -1).any()
        assert not (mask[covered] == -1).all()
    assert 0.01 < (many.masks == -1).mean() < 0.06


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_border_is_what_touches_an_object_from_outside(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    expected = [
        [
            not mask[y, x]
            and any(
                mask[v, u]
                for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                if 0 <= v < height and 0 <= u < width
            )
            for x in range(width)
        ]
        for y in range(height)
    ]
    assert (border(mask) == np.array(expected)).all()


def test_digits_are_drawn_where_their_ink_is(many: ScenesSplit) -> None:
    seen = set()
    for index in range(100):
        for one in many._layout(index, many._generator(index)).objects:
            y = np.flatnonzero(one.mask.any(1))
            if not len(y):
                continue
            seen.add(CLASSES[one.label])
            assert y.max() - y.min() <= one.height + 1
            assert abs((y.min() + y.max()) / 2 - one.centre[1]) <= one.height / 2
    assert seen == set(OBJECTS)


def test_attributes_are_what_the_masks_show(many: ScenesSplit) -> None:
    for index in range(len(many)):
        objects = many._layout(index, many._generator(index)).objects
        assert many.attributes.objects[index] == len(objects) >= 1
        shown = (many.annotation(index) >= len(TEXTURES)).sum().item()
        assert many.attributes.object_share[index] == shown / 73**2
    assert set(many.attributes.objects) == set(range(1, module.MOST + 1))
    assert many.attributes.object_share.quantile(0.1) < 0.08 < 0.3 < many.attributes.object_share.quantile(0.9)


def test_every_class_is_there_often_and_every_pair_of_textures(many: ScenesSplit) -> None:
    shown = [(many.masks == label).any((1, 2)).mean() for label in range(len(CLASSES))]
    assert min(shown) > 0.2 and max(shown) < 0.8
    kinds = [frozenset(np.unique(many._layout(i, many._generator(i)).background)) for i in range(200)]
    assert {frozenset(pair) for pair in combinations(range(len(TEXTURES)), 2)} <= set(kinds)


def test_colour_and_brightness_do_not_tell_the_textures(many: ScenesSplit) -> None:
    means: dict[int, list[np.ndarray]] = {label: [] for label in range(len(TEXTURES))}
    for index in range(len(many)):
        picture, mask = many.render(index), many.masks[index]
        for label, found in means.items():
            if (mask == label).sum() > 100:
                found.append(picture[mask == label].mean(0))
    spread = np.std(np.concatenate(list(means.values())), 0)
    for label, found in means.items():
        away = np.abs(np.mean(found, 0) - np.mean(np.concatenate(list(means.values())), 0)) / spread
        assert (away < 4.5 / np.sqrt(len(found))).all(), TEXTURES[label]


def test_no_source_digit_is_in_two_groups_or_splits() -> None:
    dataset = scenes(train_images=90, validation_images=20, test_images=90)
    owners: dict[bytes, str] = {}
    for split in (dataset.train, dataset.validation, dataset.test):
        assert isinstance(split, ScenesSplit)
        for index, group in enumerate(split.groups):
            rng = np.random.default_rng(index)
            for kind in (0, 1, 2, 3, 3, 3):
                glyph = split._glyph(index, kind, rng).tobytes()
                assert owners.setdefault(glyph, group) == group
    assert len(set(dataset.test.groups)) >= 75


def test_a_picture_depends_on_seed_split_and_row_only(small: Dataset) -> None:
    longer = scenes(train_images=30, validation_images=9, test_images=17)
    for name in ("train", "validation", "test"):
        few, more = getattr(small, name), getattr(longer, name)
        for index in (7, 0, 3):  # not in order
            assert torch.equal(few.video(index), more.video(index))
            assert torch.equal(few.annotation(index), more.annotation(index))
        assert few.attributes.equals(more.attributes.iloc[: len(few)])
        assert (few.groups == more.groups[: len(few)]).all()
    other = scenes(seed=1, **SMALL).train
    pictures = [small.train.video(0), small.train.video(1), small.test.video(0), other.video(0)]
    assert not any(torch.equal(a, b) for a, b in combinations(pictures, 2))


def test_a_caller_cannot_change_what_is_stored(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    split = small.train
    picture, mask = split.video(3).clone(), split.annotation(3).clone()
    split.video(3).zero_()
    split.annotation(3).zero_()
    assert torch.equal(split.video(3), picture) and torch.equal(split.annotation(3), mask)
    monkeypatch.setattr(module, "CACHE_BYTES", 0)
    assert torch.equal(scenes(**SMALL).train.video(3), picture)


def test_the_same_scene_at_another_size(small: Dataset) -> None:
    large = scenes(size=128, **SMALL).train
    for index in range(24):
        fine, coarse = large.annotation(index)[1::2, 1::2][:73, :73], small.train.annotation(index)
        assert large.video(index).shape == (1, 146, 146, 3)
        known = (fine >= 0) & (coarse >= 0)
        assert (fine == coarse)[known].float().mean() > 0.97


CHANGES = {"size": 65, "train_images": 25, "validation_images": 9, "test_images": 17, "seed": 1}


def test_the_fingerprint_follows_every_parameter(small: Dataset) -> None:
    prints = [small.fingerprint, *(scenes(**{**SMALL, key: CHANGES[key]}).fingerprint for key in CHANGES)]
    assert len(set(prints)) == len(prints)
    assert scenes(**SMALL).fingerprint == small.fingerprint


@pytest.mark.parametrize(
    ("name", "value"), [("REVISION", 99), ("SHADE", 0.31), ("INK", 0.4), ("NOISE", (0.0, 0.1)), ("SWING", (0.1, 0.2))]
)
def test_the_fingerprint_shows_a_changed_generator(
    small: Dataset, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(module, name, value)
    assert scenes(**SMALL).fingerprint != small.fingerprint


@pytest.mark.parametrize(("name", "value"), [("size", 31), ("seed", -1), ("train_images", 0), ("test_images", -3)])
def test_a_parameter_that_is_too_small_is_named(name: str, value: int) -> None:
    with pytest.raises(DataError, match=rf"scenes: {name} must be at least \d+, not {value}"):
        scenes(**{**SMALL, name: value})


@pytest.mark.parametrize("index", [-1, 24])
@pytest.mark.parametrize("what", ["video", "annotation"])
def test_a_picture_that_does_not_exist_is_refused(small: Dataset, index: int, what: str) -> None:
    with pytest.raises(DataError, match=r"train has no picture -?[0-9]+, only 0 to 23"):
        getattr(small.train, what)(index)
