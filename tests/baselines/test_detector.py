"""Detectors: published cost, boxes against counted pixels, the region loss against plain loops, reduced forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.networks.boxes import overlaps, unsuppressed
from baselines.networks.detector import ChannelAttention, Detector, detector_i3d, detector_x3d_m
from baselines.networks.region import ANCHORS, MOST, Detection
from bench.cost import Counter, count_meta
from bench.method import Batch, InputSpec
from bench.policy import Forced
from bench.task import task_loss
from vared.method import UNITS, VaRed

CLASSES, SIZE = 3, 64
I3D: dict[str, Any] = {"width": 8, "head_width": 16, "dropout": 0.0}
X3D: dict[str, Any] = {"width": 8, "blocks": (1, 1, 2, 1), "head_width": 16, "dropout": 0.0}
BOTH = pytest.mark.parametrize("name", ["detector_i3d", "detector_x3d_m"])


def tiny(name: str) -> Detector:
    torch.manual_seed(0)
    if name == "detector_i3d":
        return detector_i3d(4, SIZE, CLASSES, **I3D)
    return detector_x3d_m(4, SIZE, CLASSES, **X3D)


def truth(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).view(-1, 5)


def empty_map(height: int = 2, width: int = 2, batch: int = 1) -> Tensor:
    """Sure of nothing."""
    output = torch.zeros(batch, len(ANCHORS), 5 + CLASSES, height, width)
    output[:, :, 4] = -20
    return output


def says(output: Tensor) -> Tensor:
    """As a head gives it."""
    return output.flatten(1, 2)


@pytest.mark.parametrize(
    ("builder", "macs", "parameters", "printed", "head"),
    [
        (detector_i3d, 43_959_595_008, 33_399_073, 43.9, 1_136_887_808),
        (detector_x3d_m, 5_760_878_080, 22_265_971, 5.75, 1_095_141_376),
    ],
)
def test_cost_is_in_print_within_half_a_percent(
    builder: Any, macs: int, parameters: int, printed: float, head: int
) -> None:
    with torch.device("meta"):
        network = builder(16, 224, 21)
    count = count_meta(network, (1, 3, 16, 224, 224))
    assert count.macs == macs and macs / 1e9 == pytest.approx(printed, rel=0.005)
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    assert sum(part for name, part in count.by_module.items() if name.startswith("head.")) == head
    assert count.by_module["head.attention"] == 2 * 1024 * 1024 * 49


@BOTH
@pytest.mark.parametrize(("frames", "size"), [(1, 33), (9, 70)])
def test_odd_frames_and_sizes_run(name: str, frames: int, size: int) -> None:
    network = tiny(name).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, frames, size, size))
    assert output.shape == (2, 5 * (5 + CLASSES), -(-size // 32), -(-size // 32))
    assert output.isfinite().all()


def test_refused() -> None:
    with pytest.raises(ValueError, match="head_width must be 1 or more, got 0"):
        detector_i3d(4, SIZE, CLASSES, head_width=0)
    with pytest.raises(ValueError, match="width"):
        detector_x3d_m(4, SIZE, CLASSES, width=0)


def test_attention_by_hand_and_nothing_at_first() -> None:
    attention, x = ChannelAttention(), torch.randn(1, 3, 2, 2)
    assert torch.equal(attention(x), x)
    attention.gamma.data.fill_(0.5)
    rows = [x[0, c].flatten() for c in range(3)]
    for c in range(3):
        alike = [float(rows[c] @ row) for row in rows]
        shares = torch.tensor([math.exp(max(alike) - value) for value in alike])
        mean = sum(share * row for share, row in zip(shares / shares.sum(), rows, strict=True))
        assert torch.allclose(attention(x)[0, c].flatten(), rows[c] + 0.5 * mean, atol=1e-6)


corner = st.integers(0, 12)
box = st.tuples(corner, corner, corner, corner).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@settings(max_examples=60, deadline=None)
@given(box, box)
def test_overlap_is_that_of_the_pixels(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    sets = [{(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in (one, other)]
    expected = len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))
    assert float(overlaps(torch.tensor(one, dtype=torch.float32), torch.tensor(other))) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@example([((3 * step, 0, 3 * step + 10, 10), 0, True) for step in range(6)])  # each overlaps its neighbours alone
@given(st.lists(st.tuples(box, st.integers(0, 1), st.booleans()), min_size=1, max_size=12))
def test_suppression_is_the_greedy_one(rows: list[tuple[tuple[int, ...], int, bool]]) -> None:
    boxes = torch.tensor([row[0] for row in rows], dtype=torch.float64)
    kept: list[int] = []
    for number, (_, label, candidate) in enumerate(rows):
        rivals = [other for other in kept if rows[other][1] == label]
        if candidate and all(float(overlaps(boxes[number], boxes[other])) <= 0.4 for other in rivals):
            kept.append(number)
    labels, candidate = torch.tensor([row[1] for row in rows]), torch.tensor([row[2] for row in rows])
    found = unsuppressed(boxes[None], labels[None], candidate[None], 0.4)
    assert found[0].nonzero()[:, 0].tolist() == kept


def test_a_box_stands_where_the_map_says() -> None:
    """Half a cell in, one anchor large; those that leave the picture are cut off."""
    task, output = Detection(CLASSES, SIZE), empty_map()
    width, height = ANCHORS[0]
    output[0, 0, 4, 0, 1] = 20
    output[0, 0, 7, 0, 1] = 20
    (found,) = task.answer(says(output))["boxes"]
    expected = [48 - 32 * width, max(0.0, 16 - 32 * height), 48 + 32 * width, min(64.0, 16 + 32 * height), 1, 1, 2]
    assert found.shape == (1, 7) and found[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_answers_are_few_sure_and_best_first() -> None:
    torch.manual_seed(0)
    task, output = Detection(CLASSES, SIZE), 2 * torch.randn(3, 5 * (5 + CLASSES), 7, 7)
    nothing, *others = task.answer(torch.cat([says(empty_map(7, 7)), output]))["boxes"]
    assert nothing.shape == (0, 7)
    for boxes in others:
        assert 0 < len(boxes) <= MOST
        assert (boxes[:, :4] >= 0).all() and (boxes[:, :4] <= SIZE).all() and (boxes[:, 2:4] > boxes[:, :2]).all()
        assert (boxes[:, 4] > 0.005).all()
        score = boxes[:, 4] * boxes[:, 5]
        assert (score[1:] <= score[:-1]).all()
        same = boxes[:, None, 6] == boxes[None, :, 6]
        meet = overlaps(boxes[:, None, :4], boxes[None, :, :4]).masked_fill(~same, 0).fill_diagonal_(0)
        assert meet.max() <= 0.4


def plain_loss(output: Tensor, target: list[Tensor]) -> float:
    """The region loss as its description reads, cell by cell."""
    batch, anchors, _, height, width = output.shape
    total = 0.0
    for values, truths in zip(output.double(), target, strict=True):
        predicted, used = {}, {}
        for a in range(anchors):
            for y in range(height):
                for x in range(width):
                    v = values[a, :, y, x]
                    cx, cy = (x + v[0].sigmoid()) / width, (y + v[1].sigmoid()) / height
                    w, h = ANCHORS[a][0] * v[2].exp(), ANCHORS[a][1] * v[3].exp()
                    corners = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).clamp(0, 1)
                    predicted[a, y, x] = SIZE * corners
        for t in truths.double():
            w, h = float((t[2] - t[0]).clamp(min=1) / SIZE), float((t[3] - t[1]).clamp(min=1) / SIZE)
            cx, cy = float((t[0] + t[2]) / 2 / SIZE * width), float((t[1] + t[3]) / 2 / SIZE * height)
            x, y = min(int(cx), width - 1), min(int(cy), height - 1)
            shapes = []
            for aw, ah in ANCHORS:
                both = min(w, aw) * min(h, ah)
                shapes.append(both / (w * h + aw * ah - both))
            a = shapes.index(max(shapes))
            v = values[a, :, y, x]
            used[a, y, x] = True
            errors = [float(v[0].sigmoid() - (cx - x)), float(v[1].sigmoid() - (cy - y))]
            errors += [float(v[2 + i] - math.log(side / ANCHORS[a][i])) for i, side in enumerate((w, h))]
            total += sum(error**2 / 2 if abs(error) < 1 else abs(error) - 0.5 for error in errors)
            total += 5 * float((v[4].sigmoid() - overlaps(predicted[a, y, x], t[:4])) ** 2)
            total -= float(v[5:].log_softmax(0)[int(t[4])])
        for place, corners in predicted.items():
            if place not in used and not any(float(overlaps(corners, t[:4])) > 0.6 for t in truths.double()):
                a, y, x = place
                total += float(values[a, 4, y, x].sigmoid() ** 2)
    return total / batch


side = st.integers(0, SIZE)
truths = st.lists(
    st.tuples(side, side, side, side, st.integers(0, CLASSES - 1)).map(
        lambda t: (min(t[0], t[2]), min(t[1], t[3]), max(t[0], t[2]), max(t[1], t[3]), t[4])
    ),
    max_size=3,
)


@settings(max_examples=25, deadline=None)
@given(st.lists(truths, min_size=1, max_size=2), st.integers(1, 3), st.integers(1, 2), st.integers(0, 99))
@example([[(SIZE, 0, SIZE, 9, 1), (0, SIZE, 9, SIZE, 2)], [(8, 8, 20, 20, 0), (7, 9, 21, 20, 1)]], 2, 2, 0)
def test_loss_is_the_described_one(targets: list[list[tuple[int, ...]]], height: int, width: int, seed: int) -> None:
    """With none, several, meeting and flat true boxes, also at the edges."""
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(len(targets), len(ANCHORS), 5 + CLASSES, height, width, generator=generator)
    target = [truth(*rows) for rows in targets]
    found = Detection(CLASSES, SIZE).loss(says(output), target)
    assert float(found) == pytest.approx(plain_loss(output, target), rel=1e-4)


def test_a_box_that_overlaps_enough_may_be_sure_of_itself() -> None:
    """Its confidence has no gradient, though another cell and anchor meet the true box."""
    task, output = Detection(CLASSES, SIZE), empty_map(1, 2)
    output[:, :, 4] = 0
    width, height = ANCHORS[3]
    true = truth((32 - 32 * width, 32 - 32 * height, 32 + 32 * width, 32 + 32 * height, 0))  # centre: the second cell
    output[0, 3, 0, 0, 0] = 20  # the first cell's box is moved to the edge between them
    output.requires_grad_()
    task.loss(says(output), [true]).backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert output.grad[0, 3, 4, 0, 0] == 0
    assert output.grad[0, 3, 4, 0, 1] != 0 and (output.grad[0, [0, 1, 2, 4], 4, 0, 0] != 0).any()


def test_a_map_that_learns_gives_the_true_boxes_back() -> None:
    task = Detection(CLASSES, SIZE)
    target = [truth((4, 6, 20, 50, 2), (30, 10, 60, 60, 0)), truth((10, 20, 60, 64, 1)), truth()]
    output = torch.zeros(3, 5 * (5 + CLASSES), 4, 4, requires_grad=True)
    optimiser = torch.optim.Adam([output], lr=0.1)
    for _ in range(250):
        optimiser.zero_grad()
        loss = task.loss(output, target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert task.right(output, target).tolist() == [1, 1, 1]
    answer = task.answer(output)["boxes"]
    for found, true in zip(answer, target, strict=True):
        sure = found[found[:, 4] > 0.5]
        assert len(sure) == len(true)
        for row in true:
            (same,) = sure[sure[:, 6] == row[4]]
            assert torch.allclose(same[:4], row[:4], atol=0.5) and same[5] > 0.9


def test_right_is_who_names_every_box_where_it_is_met() -> None:
    """Two boxes, met in the first and the last cell, by anchors of their own shape; the third sample has none."""
    task, output = Detection(CLASSES, SIZE), empty_map(batch=3)
    boxes = []
    for cell, anchor, label in ((0, 0, 1), (1, 3, 2)):
        (width, height), middle = ANCHORS[anchor], 16 + 32 * cell
        corners = (middle - 32 * width, middle - 32 * height, middle + 32 * width, middle + 32 * height)
        boxes.append((*corners, label))
        output[:, anchor, 5 + label, cell, cell] = 1
    output[1, 3, 5, 1, 1] = 2
    target = [truth(*boxes), truth(*boxes), truth()]
    assert task.right(says(output), target).tolist() == [1, 0, 1]
    assert task.right(says(output)[1:2], [truth(boxes[0])]).tolist() == [1]


def test_any_map_has_finite_loss_and_answer() -> None:
    task = Detection(CLASSES, SIZE)
    for value in (1e4, -1e4):
        output = torch.full((1, 5 * (5 + CLASSES), 2, 2), value, requires_grad=True)
        loss = task.loss(output, [truth((0, 0, 0, 0, 0), (64, 64, 64, 64, 2), (0, 0, 64, 64, 1))])
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.isfinite() and output.grad is not None and output.grad.isfinite().all()
        assert task.answer(output)["boxes"][0].isfinite().all()


def test_half_precision_is_read_in_single() -> None:
    task, output = Detection(CLASSES, SIZE), torch.randn(1, 5 * (5 + CLASSES), 2, 2).bfloat16()
    target = [truth((4, 6, 20, 50, 2))]
    assert torch.equal(task.loss(output, target), task.loss(output.float(), target))


@BOTH
def test_training_lowers_the_loss_and_reaches_every_weight(name: str) -> None:
    network, sample = tiny(name), torch.randn(4, 3, 4, SIZE, SIZE)
    target = [truth((4 + 4 * row, 6, 40, 60, row % CLASSES)) for row in range(4)]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    losses = []
    for _ in range(6):
        loss, right = task_loss(network, Batch(sample, target, torch.arange(4)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
        assert right.shape == (4,) and not right.requires_grad
    assert losses[-1] < losses[0]
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def reduced(name: str) -> VaRed:
    method = VaRed(tiny(name), InputSpec("clip", SIZE, 4), units=UNITS[name]).double().eval()
    for weight in method.parameters():
        if weight.requires_grad and weight.dim() == 1 and not weight.any():
            weight.data.normal_(0, 0.2)
    return method


def drawn(method: VaRed, rows: int) -> Forced:
    generator = torch.Generator().manual_seed(1)
    trace = {}
    for point, options in method.decisions().items():
        weights = torch.rand(rows, len(options), generator=generator, dtype=torch.float64) + 0.1
        trace[point] = weights * (torch.rand(rows, len(options), generator=generator) < 0.6)
    return Forced(trace)


@BOTH
def test_reduced_forms_skip_in_the_backbone_what_their_sum_leaves_out(name: str) -> None:
    method, sample = reduced(name), torch.randn(3, 3, 4, SIZE, SIZE, dtype=torch.float64)
    assert {unit.name.partition(".")[0] for unit in method.units} == {"backbone"}
    policies = {point.rpartition(".")[0] for point in method.decisions()}
    assert len(policies) == (20 if name == "detector_i3d" else 5)
    policy = drawn(method, 3)
    with torch.no_grad():
        with Counter(method, batch=3) as counter:
            skipped = method(sample, policy)
        with method.dense():
            summed = method(sample, policy)
        fast = method.optimised()
        alone = [fast(sample[row : row + 1], policy.rows(torch.tensor([row]))) for row in range(3)]
    assert counter.result().per_sample == tuple(skipped.cost.tolist())
    assert skipped.cost.unique().numel() == 3
    assert torch.equal(skipped.cost, summed.cost) and skipped.cost.tolist() == [int(one.cost) for one in alone]
    for found in (summed.boxes or (), [boxes for one in alone for boxes in one.boxes or ()]):
        for one, other in zip(skipped.boxes or (), found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
