"""The public sets: where each lies, how its lists come, and what its labels and names tell."""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.list_rows import (
    RowReader,
    activitynet_rows,
    diving_rows,
    flagged_rows,
    folder_rows,
    id_rows,
    kinetics_rows,
    moments_rows,
    path_rows,
    something_rows,
)
from bench.data.media import YOUTUBE
from bench.data.public.names import HMDB51

FOLDERS = ("", "annotations", "lists", "labels", "splits", "ucfTrainTestlist", "testTrainMulti_7030_splits")
"""Where in a set's folder its lists are looked for."""
TRAIN, VALIDATION, HELD_BACK = ("train", "training"), ("val", "validation"), ("test", "testing")
TEST = (*VALIDATION, *HELD_BACK)
"""Folders of the videos of each part; their names may begin otherwise, as in videos_train."""


@dataclass(frozen=True)
class Lists:
    """One way in which the lists of a set are published: names of files, which may have a * and {split}."""

    train: str
    test: str
    read: RowReader
    read_test: RowReader | None = None


@dataclass(frozen=True)
class PublicSet:
    """A public set.

    folder: its name in the data root. lists: ways in which its lists come, those that are there first taken. classes:
    files with the names of its classes. flip: whether a mirrored video keeps its label. splits: how many there are.
    measured_by_map: whether its published figures are mAP, not top-1. source: what of a video's name tells its
    independent source. note: what else must be said with every result.
    """

    folder: str
    lists: tuple[Lists, ...]
    classes: tuple[str, ...] = ()
    flip: bool = True
    splits: int = 1
    source: str = r"(.*)"
    note: str = ""
    measured_by_map: bool = False


IDS = YOUTUBE.pattern
KINETICS = (
    Lists("train.csv", "val.csv", kinetics_rows),
    Lists("train.csv", "validate.csv", kinetics_rows),
    Lists("kinetics*train_list_videos.txt", "kinetics*val_list_videos.txt", path_rows),
    Lists("kinetics*train_list_rawframes.txt", "kinetics*val_list_rawframes.txt", path_rows),
    Lists("train_videofolder.txt", "val_videofolder.txt", path_rows),
)
KINETICS_CLASSES = ("kinetics_k400.txt", "label_map_k400.txt", "kinetics_400_labels.csv", "kinetics400_label_map.txt")
ONE_LABEL = "of the labels of a video only the first is taken, so that mAP is that of one label a video"
XIE = (Lists("*train_ytid*.txt", "*val_ytid*.txt", id_rows),)
IBM = (
    Lists("mini_train_videofolder.txt", "mini_val_videofolder.txt", path_rows),
    Lists("ocsampler_train.txt", "ocsampler_val.txt", path_rows),
)
IBM_CLASSES = ("mini_kinetics400.txt", "adafuse_classInd.txt", "mini_classInd.txt")

SETS = {
    "kinetics_400": PublicSet("kinetics_400", KINETICS, KINETICS_CLASSES, source=IDS),
    "mini_kinetics_200_xie": PublicSet("kinetics_400", XIE, source=IDS),
    "mini_kinetics_200_ibm": PublicSet("kinetics_400", IBM, IBM_CLASSES, source=IDS),
    "moments_in_time": PublicSet(
        "moments_in_time",
        (Lists("trainingSet.csv", "validationSet.csv", moments_rows),),
        ("moments_categories.txt",),
    ),
    "ucf101": PublicSet(
        "ucf101",
        (Lists("trainlist{split:02d}.txt", "testlist{split:02d}.txt", folder_rows),),
        ("classInd.txt",),
        splits=3,
        source=r"(v_.+_g[0-9]+)_c[0-9]+",
    ),
    "hmdb51": PublicSet(
        "hmdb51",
        (Lists("*_test_split{split}.txt", "*_test_split{split}.txt", flagged_rows("1"), flagged_rows("2")),),
        splits=3,
        source=HMDB51,
    ),
    "something_something_v1": PublicSet(
        "something_something_v1",
        (Lists("something-something-v1-train.csv", "something-something-v1-validation.csv", id_rows),),
        ("something-something-v1-labels.csv",),
        flip=False,
    ),
    "something_something_v2": PublicSet(
        "something_something_v2",
        (
            Lists("something-something-v2-train.json", "something-something-v2-validation.json", something_rows),
            Lists("train.json", "validation.json", something_rows),
        ),
        ("something-something-v2-labels.json", "labels.json"),
        flip=False,
    ),
    "jester": PublicSet(
        "jester", (Lists("jester-v1-train.csv", "jester-v1-validation.csv", id_rows),), ("jester-v1-labels.csv",), False
    ),
    "diving48": PublicSet(
        "diving48",
        (
            Lists("Diving48_V2_train.json", "Diving48_V2_test.json", diving_rows),
            Lists("Diving48_train.json", "Diving48_test.json", diving_rows),
        ),
        ("Diving48_vocab.json",),
        source=r"(.{11})_[0-9]+",
    ),
    "activitynet": PublicSet(
        "activitynet",
        (
            Lists(
                "activity_net.v1-3*.json",
                "activity_net.v1-3*.json",
                activitynet_rows("training"),
                activitynet_rows("validation"),
            ),
            Lists("actnet_train_split.txt", "actnet_val_split.txt", path_rows),
        ),
        ("activitynet.txt", "classes.txt", "classInd.txt"),
        source=r"(?:v_)?(.+)",
        note=ONE_LABEL,
        measured_by_map=True,
    ),
    "fcvid": PublicSet(
        "fcvid",
        (
            Lists("fcvid_train_split.txt", "fcvid_test_split.txt", path_rows),
            Lists("fcvid_train_split.txt", "fcvid_val_split.txt", path_rows),
        ),
        ("classes.txt", "classInd.txt"),
        note=ONE_LABEL,
        measured_by_map=True,
    ),
}
