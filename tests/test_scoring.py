"""Boxes and masks from training to figures: what a right answer scores, and what is stored of each sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from toys import Toy, ToyBoxes, ToyMasks, ToySplit

from bench import evaluation
from bench.accuracy.pooled import pooled_interval
from bench.cost import CountError
from bench.data import Split
from bench.data.sampling import Sampling
from bench.evaluation import score
from bench.method import Batch, InputSpec, Prediction
from bench.policy import Learned, Policy
from bench.profiles import Views
from bench.scoring import SCORINGS
from bench.scoring.base import Pass
from bench.scoring.masks import whole
from bench.training import TrainingError

VIEWS = Views(clips=1, crops=1)


class Knowing(Toy):
    """Answers from the pixels of the toy sets, as nearly right as pixels tell; `wrong` shifts every class by one."""

    def __init__(self, spec: InputSpec, wrong: bool = False) -> None:
        super().__init__()
        self.spec, self.wrong = spec, wrong

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        cost = torch.full((len(sample),), 15)
        self.head(sample.flatten(1)[:, :3])  # what the cost is of
        if self.spec.kind == "image":
            bright = (sample[:, 0] > 0.5).float()
            masks = torch.stack([1 - bright, bright], 1)
            return Prediction(cost, masks=masks.flip(1) if self.wrong else masks)
        return Prediction(cost, boxes=[self.box(clip[0, -1]) for clip in sample])

    def box(self, picture: Tensor) -> Tensor:
        rows, columns = (torch.nonzero(picture.amax(dim) > 0.2)[:, 0] for dim in (1, 0))
        if not len(rows):
            return torch.zeros(0, 7)
        label = (round(float(picture.max()) * 3) - 1 + self.wrong) % 3
        ends = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, 0.9, 0.8, label]
        return torch.tensor([[float(end) for end in ends]])


def spec(kind: str) -> InputSpec:
    if kind == "boxes":
        return InputSpec("clip", 16, 4, mean=0.0, std=1.0)
    return InputSpec("image", 16, mean=0.0, std=1.0, unit="image")


def test_boxes_that_are_right_score_everything_and_others_nothing() -> None:
    split = ToyBoxes(12, (6, 18, 18))
    right = score(Knowing(spec("boxes")), split, Sampling(), VIEWS)
    assert {name: found.value for name, found in right.figures.items()} == {"mAP": 1, "recall": 1, "classification": 1}
    assert (right.samples["first_box"] == 1).all() and right.executed["executed"] == right.executed["accounted"]
    assert [len(score) for score in right.samples["boxes.score"]] == [len(t) for t in right.samples["truths"]]
    wrong = score(Knowing(spec("boxes"), wrong=True), split, Sampling(), VIEWS).figures
    assert (wrong["mAP"].value, wrong["recall"].value, wrong["classification"].value) == (0, 1, 0)


class Five(ToySplit):
    """As many classes as the toy network answers for."""

    classes = tuple("abcde")


class Ranked(Five):
    """A set that is measured by mAP."""

    measured_by_map = True


@pytest.mark.parametrize("views", [Views(clips=1, crops=1), Views(clips=2, crops=3, clip_videos=24, video_videos=21)])
def test_map_of_videos_is_had_again_from_what_is_stored(views: Views, tmp_path: Path) -> None:
    found = score(Toy(), Ranked(30), Sampling(), views)
    found.samples.to_parquet(tmp_path / "t.parquet", index=False)
    stored = pd.read_parquet(tmp_path / "t.parquet").dropna(subset=["scores"])
    assert len(stored) == (views.video_videos or 30) and stored["scores"].iloc[0].dtype == np.float32
    assert np.allclose(np.stack([*stored["scores"]]).sum(1), 1)
    assert pooled_interval("mAP", [stored]) == found.figures["mAP"]
    other = score(Toy(), Five(30), Sampling(), views)
    assert "scores" not in other.samples and other.figures == found.figures


class Falling(Toy):
    """Holds each class for less likely than the one before it, whatever it sees: class k is ranked k-th."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        logits = -torch.arange(self.classes).float().expand(len(sample), -1)
        return Prediction(super().forward(sample).cost, logits=logits)


@pytest.mark.parametrize("classes", [19, 20])
def test_a_video_is_right_if_its_class_is_ranked_first_or_among_the_first_five(classes: int) -> None:
    """Of fewer than 20 classes five are too large a part."""
    split = ToySplit(2 * classes)
    split.targets, split.classes = np.arange(2 * classes) % classes, tuple(map(str, range(classes)))
    found = score(Falling(classes), split, Sampling(), Views(clips=2, crops=3))
    assert (found.samples["video_1"] == (split.targets < 1)).all()
    assert found.figures["video-1"].value == pytest.approx(1 / classes)
    if classes == 20:
        assert (found.samples["video_5"] == (split.targets < 5)).all() and found.figures["video-5"].value == 0.25
    else:
        assert found.samples["video_5"].isna().all() and "video-5" not in found.figures


def test_a_crop_in_which_nothing_is_known_counts_as_right() -> None:
    target = torch.tensor([[[-1, -1]], [[-1, 1]], [[0, 1]]])
    said = Prediction(torch.zeros(3), masks=torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(3, 2, 1, 2))
    assert SCORINGS["masks"].centre(said, target) == {"crop_pixels": [1.0, 0.0, 0.5]}


def test_a_key_frame_without_boxes_is_right_if_nothing_is_said_of_it() -> None:
    truth = [torch.zeros(0, 5), torch.zeros(0, 5), torch.tensor([[0.0, 0.0, 4.0, 4.0, 1.0]])]
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0, 0.9, 0.8, 1.0]])
    said = Prediction(torch.zeros(3), boxes=[box[:0], box, box[:0]])
    assert SCORINGS["boxes"].centre(said, truth)["first_box"] == [1.0, 0.0, 0.0]


def test_every_scale_has_the_same_say_however_many_windows_overlap() -> None:
    """Shares that add up to one do so in the end, at every pixel."""

    def answers(item: Batch) -> list[Tensor]:
        return [item.sample[:, :2].softmax(1)]

    split, views = ToyMasks(1, (1, 22, 37)), Views(clips=1, crops=1, scales=(1.0, 2.0))
    shares = whole(answers, split.video(0), 0, spec("masks"), Pass(split, Sampling(), views, 3))
    assert shares.shape == (2, 22, 37) and torch.allclose(shares.sum(0), torch.ones(22, 37))


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 2.0)])
def test_masks_of_whole_pictures_are_put_together_from_windows(scales: tuple[float, ...]) -> None:
    split, views = ToyMasks(9, (1, 22, 37)), Views(clips=1, crops=1, scales=scales)
    right = score(Knowing(spec("masks")), split, Sampling(), views)
    assert right.figures["mIoU"].value == right.figures["pixel-accuracy"].value == 1
    assert (right.samples[["true.0", "true.1"]].sum(axis=1) == 22 * 36).all()  # all but the line that is void
    wrong = score(Knowing(spec("masks"), wrong=True), split, Sampling(), views)
    assert wrong.figures["mIoU"].value == wrong.figures["pixel-accuracy"].value == 0
    assert np.allclose(wrong.samples["crop_pixels"] + right.samples["crop_pixels"], 1)


def test_masks_of_some_pictures_only() -> None:
    views = Views(clips=1, crops=1, clip_videos=6, video_videos=4)
    scored = score(Knowing(spec("masks")), ToyMasks(9, (1, 18, 20)), Sampling(), views)
    assert len(scored.samples) == 6 and scored.samples["pixels"].notna().sum() == 4
    assert scored.figures["mIoU"].value == 1


@pytest.mark.parametrize(("kind", "split"), [("boxes", ToyBoxes(4, (4, 16, 16))), ("masks", ToyMasks(4, (1, 16, 16)))])
def test_answers_that_are_no_numbers_are_no_record(kind: str, split: Split) -> None:
    class Lost(Knowing):
        def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
            told = super().forward(sample)
            masks = None if told.masks is None else told.masks * torch.nan
            boxes = None if told.boxes is None else [each * torch.nan for each in told.boxes]
            return Prediction(told.cost, masks=masks, boxes=boxes)

    with pytest.raises(TrainingError, match="not finite"):
        score(Lost(spec(kind)), split, Sampling(), VIEWS)


def test_an_answer_of_another_kind_is_named() -> None:
    with pytest.raises(ValueError, match="no boxes"):
        score(Knowing(spec("masks")), ToyBoxes(4, (4, 16, 16)), Sampling(), VIEWS)
    with pytest.raises(ValueError, match="no class logits"):
        score(Knowing(spec("masks")), ToySplit(4, (4, 16, 16)), Sampling(), VIEWS)


class Crowded(Toy):
    """In a large batch answers with another class, and works twice as much."""

    def __init__(self, answers: bool) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        crowd, told = len(sample) > 8, super().forward(sample)
        if crowd and not self.answers:
            return Prediction(told.cost + super().forward(sample).cost, logits=told.logits)
        logits = torch.zeros(len(sample), 5)
        logits[:, int(crowd and self.answers)] = 1
        return Prediction(told.cost, logits=logits)


@pytest.mark.parametrize("answers", [True, False])
def test_what_depends_on_the_size_of_the_batch_is_no_record(answers: bool) -> None:
    with pytest.raises(CountError, match="of 8 samples get another answer or cost alone"):
        score(Crowded(answers), Five(30), Sampling(), VIEWS)
    assert len(score(Crowded(answers), Five(8), Sampling(), VIEWS).samples) == 8  # where there are never so many


class Rounding(Toy):
    """Costs a little more in batches, as where every feature has a gate of its own, which rounding opens or closes."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        cost = torch.full((len(sample),), 10_000 + self.more * (len(sample) > 1))
        return Prediction(cost, logits=super().forward(sample).logits)


@pytest.mark.parametrize(("more", "same"), [(100, True), (-90, True), (150, False)])
def test_a_cost_that_rounding_moves_is_none_of_another_batch(more: int, same: bool) -> None:
    method, split = Rounding(more), Five(30)
    found = evaluation.follow(method, split, Sampling(), np.arange(30), Learned())
    if same:
        evaluation._alone(method, split, Sampling(), found)
        return
    with pytest.raises(CountError, match="8 of 8 samples get another answer or cost alone"):
        evaluation._alone(method, split, Sampling(), found)


class Misstated(Toy):
    """Runs 15 multiply-adds a sample, and states another cost."""

    def __init__(self, cost: int, exact: bool) -> None:
        super().__init__()
        self.cost, self.exact = cost, exact

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        return Prediction(torch.full((len(sample),), self.cost), logits=super().forward(sample).logits)


@pytest.mark.parametrize(("cost", "exact"), [(14, True), (16, True), (16, False)])
def test_a_cost_that_is_not_what_runs_is_no_record(cost: int, exact: bool) -> None:
    with pytest.raises(CountError, match=f"accounts {cost} multiply-adds, and 15 run"):
        score(Misstated(cost, exact), Five(8), Sampling(), VIEWS)


def test_what_is_not_exact_may_run_more_than_it_accounts() -> None:
    found = score(Misstated(10, exact=False), Five(8), Sampling(), VIEWS)
    assert found.executed == {"samples": 8, "executed": 8 * 15, "accounted": 8 * 10}
