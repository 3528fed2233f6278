"""The public sets in the layouts that users have: a small tree of each is built and read; then what may be wrong."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import COLOUR, png
from refusals import refused

from bench.data.builders import build
from bench.data.public.names import source_of
from bench.data.public.sets import SETS
from bench.data.public.survey import survey
from bench.data.sampling import Sampling, test_batches
from bench.method import InputSpec

CLASSES = ("air drumming", "archery", "zumba")
COUNT = 8  # training videos of a class; and 2 test videos


def ids(part):
    """(YouTube id, class) of every video of a part."""
    count = COUNT if part == "train" else 2
    return [(f"{part[:2]}{c}_{k:05d}-Y_"[:11], label) for c, label in enumerate(CLASSES) for k in range(count)]


@pytest.fixture
def tree(make_video, tmp_path):
    """Writes files under a folder: text as it is, JSON of anything else, None a video, a number so many frames."""
    clip = make_video(tmp_path / "clip.mp4", [round(1000 * i / 30) for i in range(12)], 32, 24)
    picture = tmp_path / "1.png"
    picture.write_bytes(png(np.full((24, 32, 3), 90, np.uint8), colour=COLOUR))

    def write(files):
        for name, content in files.items():
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                os.link(clip, path)
            elif isinstance(content, int):
                path.mkdir()
                for number in range(1, content + 1):
                    os.link(picture, path / f"img_{number:05d}.png")
            else:
                path.write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / "data"

    return write


def get(name, root, **options):
    return build(name, data_root=root, frames=4, size=14, options=options)


def lines(rows):
    return "".join(f"{row}\n" for row in rows)


def numbered(part, form):
    return lines(form.format(id=name, label=CLASSES.index(label), name=label) for name, label in ids(part))


def kinetics_videos(form="{part}/{label}/{id}_000001_000011.mp4"):
    return {
        "kinetics_400/" + form.format(part=part, label=label, id=name): None
        for part in ("train", "val")
        for name, label in ids(part)
    }


def kinetics(kind):
    """The same videos of Kinetics-400 with the lists of one of its users."""
    cvdf = "label,youtube_id,time_start,time_end,split\n"
    if kind == "cvdf":
        lists = {
            f"annotations/{part}.csv": cvdf + numbered(part, "{name},{id},1,11," + part) for part in ("train", "val")
        }
        media = kinetics_videos("{part}/{id}_000001_000011.mp4")
    elif kind == "slowfast":
        form = "{part}/{{name}}/{{id}}_000001_000011.mp4 {{label}}"
        lists = {f"{part}.csv": numbered(part, form.format(part=part)) for part in ("train", "val")}
        media = kinetics_videos()
    elif kind == "mmaction2":
        lists = {
            f"kinetics400_{part}_list_videos.txt": numbered(part, "{name}/{id}_000001_000011.mp4 {label}")
            for part in ("train", "val")
        }
        media = kinetics_videos("videos_{part}/{label}/{id}_000001_000011.mp4")
    elif kind == "rawframes":
        lists = {
            f"kinetics400_{part}_list_rawframes.txt": numbered(part, "{name}/{id}_000001_000011 5 {label}")
            for part in ("train", "val")
        }
        media = dict.fromkeys(kinetics_videos("rawframes_{part}/{label}/{id}_000001_000011"), 5)
    elif kind == "ibm":
        lists = {
            f"{part}_videofolder.txt": numbered(part, part + "/{name}/{id}_000001_000011;1;5;{label}")
            for part in ("train", "val")
        }
        media = dict.fromkeys(kinetics_videos("{part}/{label}/{id}_000001_000011"), 5)
    else:
        lists, media = {}, kinetics_videos("{part}/{label}/{id}_000001_000011.mp4")
    lists |= {"label_map_k400.txt": lines(CLASSES)}
    return {f"kinetics_400/{name}": text for name, text in lists.items()} | media


def parts(dataset):
    return dataset.train, dataset.validation, dataset.test


def check(dataset, train=3 * COUNT, test=6, classes=CLASSES):
    assert len(dataset.train) + len(dataset.validation) == train and len(dataset.test) == test
    assert len(dataset.validation) == len(classes) and dataset.train.classes == tuple(classes)
    assert dataset.notes[0] == f"coverage {train + test} of {train + test}"
    paths = [set(part.attributes["path"]) for part in parts(dataset)]
    assert sum(map(len, paths)) == len(set.union(*paths)) == train + test
    (batch,) = test_batches(dataset.test, InputSpec("clip", 14, 4), Sampling(), 1, 1, test)
    assert torch.isfinite(batch.sample).all()
    return dataset


@pytest.mark.parametrize("kind", ["cvdf", "slowfast", "mmaction2", "rawframes", "ibm", "folders"])
def test_kinetics_with_the_lists_of_each_of_its_users(tree, kind):
    root = tree(kinetics(kind))
    dataset = check(get("kinetics_400", root))
    for part, name in ((dataset.test, "val"), (dataset.train, "train")):
        known = dict(ids(name))
        assert set(part.groups) <= set(known)
        assert [CLASSES[target] for target in part.targets] == [known[group] for group in part.groups]
    assert dataset.train.flip
    assert any(note.startswith("test: the published list; validation: 3 of 24") for note in dataset.notes)


def test_of_folders_the_validation_videos_are_the_test_and_held_back_ones_are_ignored(tree):
    files = kinetics("folders")
    held_back = [name.replace("/val/", "/test/").replace("/va", "/xx") for name in files if "/val/" in name]
    root = tree(files | dict.fromkeys(held_back))
    dataset = check(get("kinetics_400", root))
    assert f"ignored {len(held_back)} videos in folders test, since there is val" in dataset.notes
    shutil.rmtree(root / "kinetics_400/val")
    assert not any(note.startswith("ignored") for note in check(get("kinetics_400", root)).notes)


def test_the_same_videos_in_frames_and_files_have_fingerprints_of_their_own(tree):
    first = get("kinetics_400", tree(kinetics("slowfast")))
    assert (
        get("kinetics_400", tree({}), seed=1).fingerprint
        != first.fingerprint
        == get("kinetics_400", tree({})).fingerprint
    )


def test_the_fingerprint_of_frames_shows_another_picture_one_more_and_one_less(tree):
    root = tree(other("jester"))
    folder = next((root / "jester/20bn-jester-v1").iterdir())
    frame, prints = folder / "img_00002.png", [get("jester", root).fingerprint]
    data = frame.read_bytes()
    for content in (data + b"x", None, data):
        frame.unlink(missing_ok=True)
        if content:
            frame.write_bytes(content)
        (folder / ".hidden1.png").write_bytes(data)
        prints.append(get("jester", root).fingerprint)
    assert len(set(prints)) == 3 and prints[0] == prints[3]
    for file in folder.iterdir():
        file.unlink()
        file.touch()
    assert f"{folder}: is empty" in refused(lambda: get("jester", root))


def test_both_mini_kinetics_out_of_one_folder_are_never_mixed(tree):
    chosen = CLASSES[:2]
    xie = {
        f"lists/mini_kinetics/s9xie_{part}_ytid.txt": lines(name for name, label in ids(part) if label in chosen)
        for part in ("train", "val")
    }
    root = tree(kinetics("cvdf") | xie | {"lists/mini_kinetics/adafuse_classInd.txt": lines(chosen)})
    first, second = (check(get(f"mini_kinetics_200_{who}", root), 16, 4, chosen) for who in ("xie", "ibm"))
    assert first.name != second.name
    assert "lists s9xie_train_ytid.txt" in first.notes[1] and "classes adafuse_classInd.txt" in second.notes[1]
    direct = {
        f"lists/mini_kinetics/ocsampler_{part}.txt": numbered(part, "{id} 300 {label}").replace(" 2\n", " 1\n")
        for part in ("train", "val")
    }
    (root / "lists/mini_kinetics/adafuse_classInd.txt").write_text(lines(["air drumming", "archery"]))
    tree({name: lines(line for line in text.splitlines() if line[2] != "2") for name, text in direct.items()})
    third = check(get("mini_kinetics_200_ibm", root), 16, 4, chosen)
    assert "lists ocsampler_train.txt" in third.notes[1]


def test_xie_ids_that_kinetics_does_not_know_are_named(tree):
    lists = {
        f"kinetics_400/{p}_ytid_list.txt": lines([n for n, _ in ids(p)] + ["unknown____"] * (p == "train"))
        for p in ("train", "val")
    }
    root = tree(kinetics("cvdf") | lists)
    dataset = get("mini_kinetics_200_xie", root, minimum_coverage=0.9)
    assert dataset.notes[0] == "coverage 30 of 31"
    assert dataset.notes[1].endswith("train_ytid_list.txt:25: unknown____ is nowhere in the lists of Kinetics-400")


OTHERS = {
    "moments_in_time": (
        {
            f"{name}Set.csv": lines(f"{label}/{n}.mp4,{label},3,0" for n, label in ids(part))
            for name, part in (("training", "train"), ("validation", "val"))
        }
        | {"moments_categories.txt": lines(f"{label},{k}" for k, label in enumerate(CLASSES))},
        {
            f"{folder}/{label}/{n}.mp4": None
            for folder, part in (("training", "train"), ("validation", "val"))
            for n, label in ids(part)
        },
    ),
    "ucf101": (
        {
            "ucfTrainTestlist/trainlist01.txt": lines(
                f"{label}/v_{label}_g{k + 3:02d}_c01.avi {c + 1}"
                for c, label in enumerate(CLASSES)
                for k in range(COUNT)
            ),
            "ucfTrainTestlist/testlist01.txt": lines(
                f"{label}/v_{label}_g{k + 1:02d}_c01.avi" for label in CLASSES for k in range(2)
            ),
            "ucfTrainTestlist/classInd.txt": lines(f"{c + 1} {label}" for c, label in enumerate(CLASSES)),
        },
        {f"UCF-101/{label}/v_{label}_g{k + 1:02d}_c01.avi": None for label in CLASSES for k in range(COUNT + 2)},
    ),
    "hmdb51": (
        {
            f"testTrainMulti_7030_splits/{label}_test_split1.txt": lines(
                f"film_{k}_{label}_u_cm_np1_fr_bad_0.avi {0 if k == 10 else 1 + (k > 7)} " for k in range(11)
            )
            for label in CLASSES
        },
        {f"{label}/film_{k}_{label}_u_cm_np1_fr_bad_0.avi": None for label in CLASSES for k in range(11)},
    ),
    "something_something_v1": (
        {
            f"something-something-v1-{name}.csv": lines(f"{n};{label}" for n, label in ids(part))
            for name, part in (("train", "train"), ("validation", "val"))
        }
        | {"something-something-v1-labels.csv": lines(CLASSES)},
        {f"20bn-something-something-v1/{n}": 5 for part in ("train", "val") for n, _ in ids(part)},
    ),
    "something_something_v2": (
        {
            f"something-something-v2-{name}.json": [
                {"id": n, "label": "", "template": f"[{label}]"} for n, label in ids(part)
            ]
            for name, part in (("train", "train"), ("validation", "val"))
        }
        | {"something-something-v2-labels.json": {label: str(k) for k, label in enumerate(CLASSES)}},
        {f"20bn-something-something-v2/{n}.webm": None for part in ("train", "val") for n, _ in ids(part)},
    ),
    "jester": (
        {
            f"jester-v1-{name}.csv": lines(f"{n};{label}" for n, label in ids(part))
            for name, part in (("train", "train"), ("validation", "val"))
        }
        | {"jester-v1-labels.csv": lines(CLASSES)},
        {f"20bn-jester-v1/{n}": 5 for part in ("train", "val") for n, _ in ids(part)},
    ),
    "diving48": (
        {
            f"Diving48_V2_{name}.json": [
                {"vid_name": n, "label": CLASSES.index(label), "start_frame": 0, "end_frame": 12}
                for n, label in ids(part)
            ]
            for name, part in (("train", "train"), ("test", "val"))
        }
        | {"Diving48_vocab.json": [label.split() for label in CLASSES]},
        {f"rgb/{n}.mp4": None for part in ("train", "val") for n, _ in ids(part)},
    ),
    "activitynet": (
        {
            "activity_net.v1-3.min.json": {
                "database": {
                    n: {"subset": name, "annotations": [{"label": label, "segment": [0, 1]}, {"label": CLASSES[0]}]}
                    for name, part in (("training", "train"), ("validation", "val"))
                    for n, label in ids(part)
                }
                | {"hidden": {"subset": "testing", "annotations": []}}
            }
        },
        {f"videos/v_{n}.mp4": None for part in ("train", "val") for n, _ in ids(part)},
    ),
    "fcvid": (
        {
            f"fcvid_{name}_split.txt": numbered(part, "{id},5,{label},0")
            for name, part in (("train", "train"), ("test", "val"))
        }
        | {"classes.txt": lines(CLASSES)},
        {f"frames/{n}": 5 for part in ("train", "val") for n, _ in ids(part)},
    ),
}


def other(name):
    return {f"{name}/{path}": content for part in OTHERS[name] for path, content in part.items()}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_other_set_in_its_published_layout(tree, name):
    classes = tuple(label.replace(" ", "-") for label in CLASSES) if name == "diving48" else CLASSES
    dataset = check(get(name, tree(other(name))), classes=classes)
    assert dataset.train.flip == (name not in ("something_something_v1", "something_something_v2", "jester"))
    assert any("only the first is taken" in note for note in dataset.notes) == (name in ("activitynet", "fcvid"))
    assert dataset.test.measured_by_map == (name in ("activitynet", "fcvid"))


@pytest.mark.parametrize("kind", ["actnet", "fcvid"])
def test_the_lists_and_classes_of_ar_net_are_taken_under_its_own_names(tree, kind):
    name = {"actnet": "activitynet", "fcvid": "fcvid"}[kind]
    lists = {f"{name}/{kind}_{part}_split.txt": numbered(part, "{id},5,{label},0") for part in ("train", "val")}
    frames = {f"{name}/frames/{n}": 5 for part in ("train", "val") for n, _ in ids(part)}
    dataset = check(get(name, tree(lists | frames | {f"{name}/classInd.txt": lines(CLASSES)})))
    assert dataset.notes[1] == f"lists {kind}_train_split.txt and {kind}_val_split.txt"


def test_there_is_a_layout_test_for_every_set():
    assert {*OTHERS, "kinetics_400", "mini_kinetics_200_xie", "mini_kinetics_200_ibm"} == set(SETS)


def test_videos_of_one_source_are_drawn_together(tree):
    files = other("ucf101")
    clips = [f"{label}/v_{label}_g{k + 3:02d}_c{c:02d}.avi" for label in CLASSES for k in range(COUNT) for c in (1, 2)]
    files["ucf101/ucfTrainTestlist/trainlist01.txt"] = lines(f"{clip} 1" for clip in clips)
    files |= {f"ucf101/UCF-101/{clip}": None for clip in clips}
    dataset = get("ucf101", tree(files), validation_share=0.25)
    assert len(dataset.validation) == 12 and len(dataset.train) == 36
    assert not set(dataset.train.groups) & set(dataset.validation.groups)


@pytest.mark.parametrize(
    ("name", "clips", "source"),
    [
        (
            "hmdb51",
            [
                "A_09_brush_hair_u_nm_np1_ba_goo_0",
                "A_09_brush_hair_h_cm_np2_le_med_13",
                "A_09_brush_hair_f_nm_np1_ri_bad_2",
            ],
            "A_09_brush_hair",
        ),
        ("diving48", ["-pMjoP_OGgJ_00000", "-pMjoP_OGgJ_01234"], "-pMjoP_OGgJ"),
        ("ucf101", ["v_Archery_g01_c01", "v_Archery_g01_c02"], "v_Archery_g01"),
    ],
)
def test_the_clips_of_one_film_are_of_one_source(name, clips, source):
    for clip in clips:
        assert source_of(SETS[name].source, clip) == source


def test_stray_pictures_hide_nothing(tree):
    files = kinetics("slowfast")
    for place in ("", "train/", "train/archery/"):
        files |= {f"kinetics_400/{place}{picture}": "" for picture in ("a1.jpg", "thumb1.jpg", "zz9.png")}
    check(get("kinetics_400", tree(files)))


def test_stray_pictures_beside_folders_of_frames_hide_nothing(tree):
    files = kinetics("rawframes")
    for place in ("", "rawframes_train/", "rawframes_train/archery/"):
        files |= {f"kinetics_400/{place}{picture}": "" for picture in ("a1.jpg", "thumb1.jpg", "zz9.png")}
    assert survey("kinetics_400", tree(files)).unlisted == 0
    check(get("kinetics_400", tree({})))


def test_a_folder_of_frames_may_not_link_out_of_the_set(tree, tmp_path):
    root = tree(kinetics("rawframes"))
    dataset = get("kinetics_400", root)
    frame = dataset.test.files[0] / "img_00001.png"
    os.rename(frame, tmp_path / "away.png")
    frame.symlink_to(tmp_path / "away.png")
    assert f"{frame}: is a link that leads out of {root / 'kinetics_400'}" in refused(lambda: dataset.test.video(0))


def test_a_list_of_another_name_is_read_as_its_suffix_says(tree):
    files = other("activitynet")
    content = files.pop("activitynet/activity_net.v1-3.min.json")
    files |= {f"activitynet/{part}.txt": numbered(part, "v_{id} 12 {label}") for part in ("train", "val")}
    root = tree(files | {"activitynet/all.json": content, "activitynet/classes.txt": lines(CLASSES)})
    for train, test in (("train.txt", "val.txt"), ("all.json", "all.json"), ("train.txt", "all.json")):
        dataset = get("activitynet", root, train_list=f"activitynet/{train}", test_list=f"activitynet/{test}")
        assert f"lists {train} and {test}" in check(dataset).notes[1]


def test_what_is_wrong_with_a_row_costs_that_row_and_is_named(tree):
    files = kinetics("slowfast")
    rows = files["kinetics_400/train.csv"].splitlines()
    gone, empty, moved = (row.rsplit(" ", 1)[0] for row in rows[:3])
    wrong = rows[3].rsplit(" ", 1)[0]
    rows[3] = f"{wrong} 77"
    rows += ["../../clip.mp4 0", "train/archery/a\0b.mp4 1", "nothing", files["kinetics_400/val.csv"].splitlines()[0]]
    files["kinetics_400/train.csv"] = lines(rows)
    del files[f"kinetics_400/{gone}"]
    files[f"kinetics_400/{empty}"] = ""
    del files[f"kinetics_400/{moved}"]
    files[f"kinetics_400/train/zumba/{Path(moved).name}"] = None
    root = tree(files)
    assert "only 26 of 34 videos are there" in refused(lambda: get("kinetics_400", root))
    dataset = get("kinetics_400", root, minimum_coverage=0.5)
    said = " | ".join(dataset.notes)
    for words in (
        "coverage 26 of 34",
        f"train.csv:1: {gone} is missing",
        f"{empty}: is empty",
        "train.csv:3: label: 'air drumming', but train/zumba/",
        "train.csv:4: label: '77' is no class of the set",
        "train.csv:25: path: '../../clip.mp4' leads out",
        "train.csv:26: path: 'train/archery/a\\x00b.mp4'",
        "is listed before, in ",
        "train.csv:27: ",
    ):
        assert words in said, words


def test_links_that_lead_out_explain_a_folder_without_videos(tree, tmp_path):
    root = tree({"kinetics_400/notes.txt": ""})
    (tmp_path / "elsewhere").mkdir()
    (root / "kinetics_400/train").symlink_to(tmp_path / "elsewhere")
    said = refused(lambda: get("kinetics_400", root))
    assert "neither lists nor folders" in said and "train: is a link that leads out" in said


def test_a_test_list_that_is_half_missing_is_told_and_not_hidden_by_training(tree):
    files = kinetics("slowfast")
    gone = [row.rsplit(" ", 1)[0] for row in files["kinetics_400/val.csv"].splitlines()[:2]]
    for name in gone:
        del files[f"kinetics_400/{name}"]
    root = tree(files)
    there, listed = len(ids("val")) - 2, len(ids("val"))
    assert there / listed < 0.9 < 1 - 2 / (listed + len(ids("train")))  # of all together more than enough are there
    said = refused(lambda: get("kinetics_400", root, minimum_coverage=0.9))
    assert f"only {there} of {listed} test videos are there, under the minimum coverage of 0.9" in said
    assert f"test: {there} of {listed} listed" in get("kinetics_400", root, minimum_coverage=0.5).notes


def test_links_may_not_lead_out_and_circles_end(tree, tmp_path):
    root = tree(kinetics("slowfast"))
    outside = tmp_path / "outside"
    outside.mkdir()
    os.rename(root / "kinetics_400/val", outside / "val")
    (root / "kinetics_400/val").symlink_to(outside / "val")
    (root / "kinetics_400/train/again").symlink_to(root / "kinetics_400")
    assert "a link that leads out" in " ".join(map(str, survey("kinetics_400", root).faults))
    assert "only 24 of 31" in refused(lambda: get("kinetics_400", root))
    whole = tmp_path / "linked"
    whole.symlink_to(root)
    (root / "kinetics_400/val").unlink()
    os.rename(outside / "val", root / "kinetics_400/val")
    check(get("kinetics_400", whole))


@pytest.mark.parametrize(
    ("name", "files", "options", "words"),
    [
        ("ucf101", {}, {}, "no such folder"),
        ("ucf101", {"ucf101/x.avi": None}, {}, "needs trainlist01.txt and testlist01.txt"),
        ("ucf101", other("ucf101"), {"split": 4}, "split must be 1 to 3"),
        ("ucf101", other("ucf101"), {"split": 2}, "needs trainlist02.txt"),
        ("kinetics_400", {"kinetics_400/x/y.mp4": None}, {}, "neither lists nor folders"),
        ("kinetics_400", kinetics("slowfast"), {"train_list": "a"}, "go together"),
        ("kinetics_400", kinetics("slowfast"), {"lists": "nowhere"}, "no such folder of lists"),
        ("kinetics_400", kinetics("slowfast"), {"validation_share": 0}, "validation_share"),
        ("kinetics_400", kinetics("slowfast") | {"kinetics_400/label_map_k400.txt": "a\na\n"}, {}, "'a' twice"),
        ("mini_kinetics_200_ibm", kinetics("slowfast"), {}, "needs its 200 classes"),
        ("diving48", other("diving48") | {"diving48/Diving48_V2_test.json": "{"}, {}, "not JSON"),
        ("activitynet", other("activitynet") | {"activitynet/activity_net.v1-3.min.json": "[]"}, {}, "database"),
        ("jester", other("jester"), {"rate": "5", "x": 1}, "no option 'x'"),
    ],
)
def test_what_cannot_be_used_is_one_line(tree, name, files, options, words):
    root = tree({"other/readme.txt": ""} | files)
    assert words in refused(lambda: get(name, root, **options))


def test_frames_have_no_rate(tree):
    dataset = get("jester", tree(other("jester")), rate=5.0)
    assert "no time stamps" in refused(lambda: dataset.test.video(0))
