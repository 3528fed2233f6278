"""Another scale, padding and windows: closed forms, and what holds at any size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.scale import (
    padded,
    rescaled,
    rescaled_annotation,
    rescaled_boxes,
    rescaled_mask,
    resized,
    windows,
)

SIDE = st.integers(1, 40)
FACTOR = st.floats(0.2, 3)


def noise(*shape, seed=0, high=256):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def ramp(height, width):
    """Rises by 4 levels a column, (1, H, W, 1)."""
    return (4 * torch.arange(width, dtype=torch.uint8)).expand(1, height, width)[..., None]


@given(SIDE, SIDE, st.sampled_from([1, 3]))
def test_factor_1_is_the_identity(height, width, channels):
    pictures, mask = noise(2, height, width, channels).to(torch.uint8), noise(height, width, high=9) - 1
    assert torch.equal(rescaled(pictures, 1.0), pictures)
    assert torch.equal(rescaled_mask(mask, height, width), mask)
    boxes = noise(3, 5).float()
    assert torch.equal(rescaled_boxes(boxes, 1.0, 1.0), boxes)


@given(SIDE, SIDE, FACTOR, st.integers(0, 255), st.sampled_from([1, 3]))
def test_a_constant_stays_constant_and_sides_are_scaled(height, width, factor, level, channels):
    scaled = rescaled(torch.full((2, height, width, channels), level, dtype=torch.uint8), factor)
    assert scaled.dtype == torch.uint8 and scaled.is_contiguous() and (scaled == level).all()
    assert scaled.shape == (2, max(1, round(height * factor)), max(1, round(width * factor)), channels)


def test_enlarging_is_bilinear_between_pixel_centres():
    rows = rescaled(ramp(3, 8), 2)[0, :, :, 0]
    inner = torch.arange(1, 31, 2)  # new centres lie a quarter of a pixel from the old ones
    expected = [min(max(4 * ((x + 0.5) / 2 - 0.5), 0), 28) for x in range(16)]
    assert rows.shape == (6, 16) and rows[0].tolist() == expected == rows[-1].tolist()
    assert torch.equal(rows[2, 1:-1].long() * 2, 2 * inner[:14])


def test_shrinking_averages_with_a_triangle_as_wide_as_the_step():
    line = noise(1, 1, 16, 1, seed=3).to(torch.uint8)
    got = resized(line, 1, 8)[0, 0, :, 0].double()
    values = line[0, 0, :, 0].double()
    for k in range(1, 7):
        exact = (values[2 * k - 1 : 2 * k + 3] * torch.tensor([1, 3, 3, 1]) / 8).sum()
        assert abs(got[k] - exact) <= 1
    checks = torch.tensor([0, 255], dtype=torch.uint8).repeat(20)[None, None, :, None].expand(1, 4, 40, 1)
    inner = resized(checks, 2, 10)[0, :, 1:-1]
    assert ((inner.long() - 128).abs() <= 2).all()  # without antialiasing only one of the two levels would be left


def test_pictures_of_a_clip_and_their_channels_do_not_mix():
    clip = noise(3, 9, 12, 3).to(torch.uint8)
    whole = rescaled(clip, 0.6)
    for frame in range(3):
        for channel in range(3):
            one = clip[frame : frame + 1, :, :, channel : channel + 1].contiguous()
            assert (rescaled(one, 0.6)[0, :, :, 0].long() - whole[frame, :, :, channel].long()).abs().max() <= 1


@given(SIDE, SIDE, SIDE, SIDE)
def test_a_mask_pixel_has_the_class_at_its_centre(height, width, new_height, new_width):
    mask = torch.arange(height * width).view(height, width)
    scaled = rescaled_mask(mask, new_height, new_width)
    rows = np.floor((np.arange(new_height) + 0.5) * height / new_height + 1e-9).astype(int)
    columns = np.floor((np.arange(new_width) + 0.5) * width / new_width + 1e-9).astype(int)
    assert scaled.dtype == torch.int64
    assert (scaled.numpy() == mask.numpy()[np.ix_(rows, columns)]).all()


@given(SIDE, SIDE, st.integers(1, 5))
def test_a_mask_enlarged_by_a_whole_number_repeats_its_pixels_and_comes_back(height, width, times):
    mask = noise(height, width, high=12) - 1
    large = rescaled_mask(mask, height * times, width * times)
    assert torch.equal(large, mask.repeat_interleave(times, 0).repeat_interleave(times, 1))
    assert torch.equal(rescaled_mask(large, height, width), mask)


def test_boxes_and_masks_follow_their_pictures():
    before, after = torch.zeros(2, 10, 20, 3), torch.zeros(2, 5, 40, 3)
    boxes = torch.tensor([[1.0, 2.0, 11.0, 8.0, 3.0], [0.0, 0.0, 20.0, 10.0, 7.0]])
    expected = [[2.0, 1.0, 22.0, 4.0, 3.0], [0.0, 0.0, 40.0, 5.0, 7.0]]
    assert rescaled_annotation(boxes, before, after).tolist() == expected
    assert rescaled_annotation(torch.zeros(0, 5), before, after).shape == (0, 5)
    mask = noise(10, 20)
    assert torch.equal(rescaled_annotation(mask, before, after), rescaled_mask(mask, 5, 40))


@settings(deadline=None)
@given(st.integers(4, 30), st.integers(4, 30), FACTOR)
def test_a_rectangle_keeps_its_place_in_picture_mask_and_box(height, width, factor):
    mask = torch.zeros(height, width, dtype=torch.int64)
    mask[1 : height - 2, 2 : width - 1] = 1
    box = torch.tensor([[2.0, 1.0, width - 1.0, height - 2.0, 1.0]])
    picture = (mask * 200).to(torch.uint8)[None, :, :, None]
    scaled = rescaled(picture, factor)
    found = rescaled_annotation(mask, picture, scaled)
    x1, y1, x2, y2, _ = rescaled_annotation(box, picture, scaled)[0].tolist()
    ys, xs = torch.where(found == 1)
    if len(ys):
        edges = [xs.min() - x1, ys.min() - y1, xs.max() + 1 - x2, ys.max() + 1 - y2]
        assert max(abs(float(edge)) for edge in edges) <= 0.5 + 1e-4
    doubled = rescaled(picture, 2)
    assert torch.equal((doubled > 100).long()[0, :, :, 0], rescaled_annotation(mask, picture, doubled))


@given(SIDE, SIDE, SIDE)
def test_padding_keeps_the_picture_in_its_corner(height, width, size):
    planes, mask = noise(2, 3, height, width).float(), noise(height, width, high=5)
    for whole, value in ((planes, 0.0), (mask, -1)):
        filled = padded(whole, size, value)
        assert filled.dtype == whole.dtype
        assert filled.shape == (*whole.shape[:-2], max(height, size), max(width, size))
        assert torch.equal(filled[..., :height, :width], whole)
        rest = filled.clone()
        rest[..., :height, :width] = value
        assert (rest == value).all()


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30))
def test_windows_cover_every_pixel_none_leaves_and_fewer_would_not_do(more_down, more_across, size):
    height, width = size + more_down, size + more_across
    covered = torch.zeros(height, width, dtype=torch.bool)
    corners = windows(height, width, size)
    for y, x in corners:
        assert 0 <= y <= height - size and 0 <= x <= width - size
        covered[y : y + size, x : x + size] = True
    assert covered.all()
    assert len(set(corners)) == len(corners) == -(-height // size) * -(-width // size)
    for axis in (0, 1):
        steps = np.diff(sorted({corner[axis] for corner in corners}))
        assert len(steps) == 0 or np.ptp(steps) <= 1


def test_windows_in_closed_form():
    assert windows(5, 5, 5) == [(0, 0)]
    assert windows(5, 10, 5) == [(0, 0), (0, 5)]
    assert windows(7, 12, 5) == [(0, 0), (0, 3), (0, 7), (2, 0), (2, 3), (2, 7)]


@pytest.mark.parametrize(("height", "width", "size"), [(4, 9, 5), (9, 4, 5), (0, 0, 0)])
def test_a_picture_smaller_than_a_window_is_refused(height, width, size):
    with pytest.raises(ValueError, match="pad it first"):
        windows(height, width, size)
