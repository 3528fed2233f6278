import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.accuracy.detection import average_precisions, box_iou, classification, key_frame, recall

TRUTH = [0.0, 0.0, 10.0, 10.0, 1.0]


def found(*, shift: float = 0.0, confidence: float = 0.9, share: float = 1.0, label: int = 1) -> list[float]:
    """A detection as large as `TRUTH`, moved to the right."""
    return [shift, 0.0, shift + 10.0, 10.0, confidence, share, label]


def pooled(*frames: tuple[list[list[float]], list[list[float]]]) -> tuple[dict[int, float], float, float]:
    """Average precision by class, recall and classification of key frames that each are a source of their own."""
    table = pd.DataFrame([key_frame(*frame) for frame in frames])
    codes, ones = np.arange(len(table)), np.ones((1, len(table)))
    classes = sorted({int(k) for cell in table["truths"] for k in cell})
    precisions = average_precisions(table, codes)(ones)[:, 0]
    return (
        dict(zip(classes, precisions, strict=False)),
        float(recall(table, codes)(ones)[0]),
        float(classification(table, codes)(ones)[0]),
    )


def test_iou_of_boxes_by_hand() -> None:
    boxes = [[0, 0, 2, 2], [0, 0, 4, 1], [5, 5, 5, 5], [3, 3, 1, 1]]
    others = [[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [5, 5, 5, 5]]
    assert box_iou(boxes, others).tolist() == [[1, 1 / 7, 0, 0], [2 / 6, 0, 2 / 6, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert box_iou([], others).shape == (0, 4) and box_iou(boxes, np.zeros((0, 4))).shape == (4, 0)


def test_one_right_box_and_its_columns() -> None:
    row = key_frame([found(confidence=0.2), found(shift=1, share=0.5)], [TRUTH])
    assert row["boxes.score"].tolist() == pytest.approx([0.45, 0.2]) and row["boxes.score"].dtype == np.float32
    assert row["boxes.right"].tolist() == [True, False] and row["boxes.class"].dtype == np.int16
    assert (row["truths"].tolist(), row["found"], row["named"]) == ([1], 1, 1)


@pytest.mark.parametrize(("width", "right"), [(5.0, False), (5.001, True), (4.999, False), (10.0, True)])
def test_the_overlap_must_exceed_a_half(width: float, right: bool) -> None:
    """A box of half the width has an IoU of exactly 0.5, which is not enough; in recall neither."""
    row = key_frame([[0, 0, width, 10, 1, 1, 1]], [TRUTH])
    assert row["boxes.right"].tolist() == [right] and row["found"] == row["named"] == int(right)


@pytest.mark.parametrize(("confidence", "sure"), [(0.25, 0), (0.2501, 1), (0.1, 0)])
def test_recall_needs_confidence_and_precision_does_not(confidence: float, sure: int) -> None:
    row = key_frame([found(confidence=confidence)], [TRUTH])
    assert row["boxes.right"].tolist() == [True] and row["found"] == sure


def test_recall_takes_confidence_without_the_share_of_the_class() -> None:
    assert key_frame([found(share=0.01)], [TRUTH])["found"] == 1


def test_what_finds_the_same_thing_again_is_wrong_however_good() -> None:
    row = key_frame([found(confidence=0.8), found(shift=2, confidence=0.9)], [TRUTH])
    assert row["boxes.right"].tolist() == [True, False], "the higher score comes first, not the better place"
    assert pooled(([found(), found(confidence=0.8)], [TRUTH]))[0] == {1: 1.0}, "it costs only what comes after it"


def test_a_box_goes_to_the_true_box_it_overlaps_most_even_if_that_is_taken() -> None:
    """The second box is near enough to both, nearest to the first one, which is taken: Pascal VOC calls it wrong."""
    other = [4.0, 0.0, 14.0, 10.0, 1.0]
    row = key_frame([found(), found(shift=1.5, confidence=0.8)], [TRUTH, other])
    assert box_iou([[1.5, 0, 11.5, 10]], [other[:4]])[0, 0] > 0.5
    assert row["boxes.right"].tolist() == [True, False] and row["found"] == 2


def test_another_class_is_not_right_but_found() -> None:
    row = key_frame([found(label=2)], [TRUTH])
    assert row["boxes.right"].tolist() == [False] and (row["found"], row["named"]) == (1, 0)
    assert pooled(([found(label=2)], [TRUTH])) == ({1: 0.0}, 1.0, 0.0)


def test_the_best_place_names_a_true_box_not_the_best_score() -> None:
    boxes = [found(shift=1, confidence=0.9, label=1), found(confidence=0.3, label=2)]
    assert [key_frame(boxes, [TRUTH])[name] for name in ("found", "named")] == [1, 0]


def test_of_boxes_in_one_place_the_better_score_names() -> None:
    boxes = [found(confidence=0.3, label=2), found(confidence=0.9, label=1)]
    assert key_frame(boxes, [TRUTH])["named"] == key_frame(boxes[::-1], [TRUTH])["named"] == 1


def test_nothing_detected_and_nothing_there() -> None:
    assert pooled(([], [TRUTH])) == ({1: 0.0}, 0.0, 0.0)
    empty = key_frame([], [])
    assert [len(empty[name]) for name in ("boxes.score", "boxes.class", "boxes.right", "truths")] == [0] * 4
    assert (empty["found"], empty["named"]) == (0, 0)
    only_false = key_frame(np.array([found()]), np.zeros((0, 5)))
    assert only_false["boxes.right"].tolist() == [False] and only_false["found"] == 0


def test_a_frame_with_nothing_in_it_costs_precision_only() -> None:
    """A surer box in an empty frame halves the precision of the right one."""
    assert pooled(([found(confidence=0.8)], [TRUTH]), ([found()], [])) == ({1: 0.5}, 1.0, 1.0)


def test_without_any_true_box_there_is_no_precision_and_no_recall() -> None:
    table = pd.DataFrame([key_frame([found()], [])])
    assert np.isnan(average_precisions(table, np.zeros(1, int))(np.ones((1, 1)))).all()
    assert np.isnan(recall(table, np.zeros(1, int))(np.ones((1, 1)))).all()


def test_a_class_that_is_never_there_has_no_precision() -> None:
    assert pooled(([found(), found(label=3)], [TRUTH]))[0] == {1: 1.0}


def test_precision_is_the_best_at_that_recall_or_a_higher_one() -> None:
    """Wrong, right, right, wrong, right of four: 2/3 up to a recall of 1/2, 3/5 up to 3/4, nothing above."""
    frames = [
        ([found(confidence=c)], [TRUTH] if right else [])
        for c, right in ((0.9, 0), (0.8, 1), (0.7, 1), (0.6, 0), (0.5, 1))
    ]
    precisions, _, _ = pooled(*frames, ([], [TRUTH]))
    assert precisions[1] == pytest.approx(2 / 3 / 2 + 3 / 5 / 4)


def test_boxes_of_equal_score_come_in_together() -> None:
    right, wrong = ([found(confidence=0.5)], [TRUTH]), ([found(confidence=0.5)], [])
    assert pooled(right, wrong) == pooled(wrong, right) == ({1: 0.5}, 1.0, 1.0)


@pytest.mark.parametrize(
    ("detections", "truth", "message"),
    [
        (np.zeros((2, 6)), [TRUTH], r"detections of shape \(2, 6\)"),
        ([found()], np.zeros((1, 4)), r"true boxes of shape \(1, 4\)"),
        ([found(confidence=float("nan"))], [TRUTH], "detections must be finite"),
        ([found()], [[0, 0, float("inf"), 1, 1]], "true boxes must be finite"),
    ],
)
def test_faulty_boxes_are_refused(detections: Any, truth: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        key_frame(detections, truth)


@st.composite
def random_frames(draw: st.DrawFn) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames of few boxes on a coarse grid with coarse scores: many overlaps, duplicates and ties."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    frames = []
    for _ in range(draw(st.integers(1, 8))):
        n, m = random.integers(0, 7), random.integers(0, 4)
        corners = random.integers(0, 3, (n + m, 2))
        boxes = np.hstack([corners, corners + random.integers(2, 5, (n + m, 2))])
        labels = random.integers(0, 3, (n + m, 1))
        scores = np.hstack([random.integers(1, 9, (n, 1)) / 8, random.integers(1, 3, (n, 1)) / 2])
        frames.append((np.hstack([boxes[:n], scores, labels[:n]]), np.hstack([boxes[n:], labels[n:]])))
    return frames


def plain_iou(one: np.ndarray, other: np.ndarray) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(width * height / (sum(areas) - width * height))


def plain_average_precision(frames: list[tuple[np.ndarray, np.ndarray]], label: int) -> float | None:
    """One class by plain loops, with the area under the curve taken point by point."""
    total = sum(truth[4] == label for _, truths in frames for truth in truths)
    if not total:
        return None
    ranked = []
    for detections, truths in frames:
        taken: set[int] = set()
        for box in sorted((d for d in detections if d[6] == label), key=lambda d: -d[4] * d[5]):
            overlaps = [plain_iou(box, truth) if truth[4] == label else 0.0 for truth in truths]
            nearest = max(range(len(truths)), key=lambda k: overlaps[k]) if len(truths) else -1
            right = nearest >= 0 and overlaps[nearest] > 0.5 and nearest not in taken
            if right:
                taken.add(nearest)
            ranked.append((box[4] * box[5], right))
    points = []
    for threshold in sorted({score for score, _ in ranked}, reverse=True):
        passed = [right for score, right in ranked if score >= threshold]
        points.append((sum(passed) / total, sum(passed) / len(passed)))
    area = before = 0.0
    for reached, _ in points:
        area += (reached - before) * max(precision for at, precision in points if at >= reached)
        before = reached
    return float(area)


@settings(max_examples=80, deadline=None)
@given(random_frames(), st.integers(0, 10**6))
def test_it_is_what_plain_loops_compute_for_any_weights(frames: list[tuple[np.ndarray, np.ndarray]], seed: int) -> None:
    """Sources that occur several times, or never, are frames that are there as often."""
    table = pd.DataFrame([key_frame(*frame) for frame in frames])
    weights = np.random.default_rng(seed).integers(0, 3, (3, len(frames))).astype(float)
    weights[0] = 1
    classes = sorted({int(k) for cell in table["truths"] for k in cell})
    values = average_precisions(table, np.arange(len(frames)))(weights)
    for draw, times in enumerate(weights.astype(int)):
        drawn = [frame for frame, count in zip(frames, times, strict=True) for _ in range(count)]
        for place, label in enumerate(classes):
            expected = plain_average_precision(drawn, label)
            if expected is None:
                assert np.isnan(values[place, draw])
            else:
                assert values[place, draw] == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(random_frames())
def test_recall_and_classification_by_plain_loops(frames: list[tuple[np.ndarray, np.ndarray]]) -> None:
    found = named = 0
    for detections, truths in frames:
        sure = sorted((d for d in detections if d[4] > 0.25), key=lambda d: -d[4] * d[5])
        for truth in truths:
            overlaps = [plain_iou(box, truth) for box in sure]
            if overlaps and max(overlaps) > 0.5:
                found += 1
                named += sure[overlaps.index(max(overlaps))][6] == truth[4]
    table = pd.DataFrame([key_frame(*frame) for frame in frames])
    assert (table["found"].sum(), table["named"].sum()) == (found, named)
    codes, ones = np.arange(len(frames)), np.ones((1, len(frames)))
    total = sum(len(truths) for _, truths in frames)
    if total:
        assert recall(table, codes)(ones)[0] == pytest.approx(found / total)
    assert classification(table, codes)(ones)[0] == pytest.approx(named / found if found else 0.0)


@settings(max_examples=20, deadline=None)
@given(random_frames(), st.integers(0, 10**6))
def test_the_order_of_boxes_and_frames_has_no_say(frames: list[tuple[np.ndarray, np.ndarray]], seed: int) -> None:
    random = np.random.default_rng(seed)
    shuffled = [(random.permutation(detections), random.permutation(truths)) for detections, truths in frames]
    one, other = (
        average_precisions(pd.DataFrame([key_frame(*frame) for frame in order]), np.zeros(len(order), int))(
            np.ones((1, 1))
        )
        for order in (frames, shuffled[::-1])
    )
    assert np.allclose(one, other, equal_nan=True)


def test_nothing_is_lost_on_the_way_through_parquet() -> None:
    rows = [key_frame([], []), key_frame([found(), found(label=0, confidence=0.1)], [TRUTH]), key_frame([], [TRUTH])]
    table = pd.DataFrame(rows)
    stored = io.BytesIO()
    table.to_parquet(stored, index=False)
    back = pd.read_parquet(stored)
    assert [cell.dtype for cell in back.loc[1, ["boxes.score", "boxes.class", "boxes.right", "truths"]]] == [
        np.float32,
        np.int16,
        np.bool_,
        np.int16,
    ]
    weights = np.array([[1.0, 1, 1], [0, 1, 2]])
    for figure in (average_precisions, recall, classification):
        assert np.array_equal(figure(table, np.arange(3))(weights), figure(back, np.arange(3))(weights))
