"""ADE20K's layouts, written small: folders and odgt lists."""

import json

import numpy as np
import pytest
import torch
from pictures import CMYK, GREYS, jpeg, png
from refusals import refused

from bench.data.ade20k import ade20k
from bench.data.check import check

IDS = np.arange(16 * 16).reshape(16, 16) % 151
BASE = "ADEChallengeData2016"


def paths(part, number):
    name = f"ADE_{part[:5]}_{number:08d}"
    return f"{BASE}/images/{part}/{name}.jpg", f"{BASE}/annotations/{part}/{name}.png"


@pytest.fixture
def root(tmp_path):
    """40 training and 5 validation pictures in the released folders."""
    for part, count in (("training", 40), ("validation", 5)):
        for number in range(count):
            image, mask = (tmp_path / "ade20k" / path for path in paths(part, number))
            for file in (image, mask):
                file.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(jpeg(np.full((16, 16, 3), 5 * number, np.uint8)))
            mask.write_bytes(png(IDS))
    (tmp_path / "ade20k" / BASE / "images/training/notes.txt").write_text("no picture")
    (tmp_path / "ade20k" / BASE / "images/training/._ADE_train_00000001.jpg").write_bytes(b"no picture")
    return tmp_path


@pytest.fixture
def listed(root):
    """The same with lists of 20 and 4 of them."""
    for part, count in (("training", 20), ("validation", 4)):
        lines = []
        for number in range(count):
            image, mask = paths(part, number)
            lines.append(json.dumps({"fpath_img": image, "fpath_segm": mask, "width": 16, "height": 16}))
        (root / f"ade20k/{part}.odgt").write_text("\n".join(lines) + "\n")
    return root


def sizes(dataset):
    return [len(split) for split in (dataset.train, dataset.validation, dataset.test)]


def replace_line(path, number, line):
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")


def test_folders_give_every_picture_with_its_mask(root):
    dataset = ade20k(data_root=root)
    assert sizes(dataset) == [38, 2, 5]
    assert dataset.notes == ("coverage 45 of 45", "validation: 2 of 40 training pictures")
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.task == "masks" and split.flip and len(split.classes) == 150 and split.classes[149] == "class 150"
        assert len(set(split.groups)) == len(split)
        for index in range(len(split)):
            level = 5 * int(split.attributes.path[index][-12:-4])
            assert (split.video(index).long() - level).abs().max() <= 1
            assert torch.equal(split.annotation(index), torch.from_numpy(IDS - 1))


def test_the_validation_pictures_are_a_drawn_share_of_the_training_ones(root):
    def drawn(**options):
        dataset = ade20k(data_root=root, **options)
        train, validation = (set(split.attributes.path) for split in (dataset.train, dataset.validation))
        assert len(train) + len(validation) == len(train | validation) == 40
        assert all("training" in path for path in train | validation)
        assert all("validation" in path for path in dataset.test.attributes.path)
        return validation

    assert drawn() == drawn() != drawn(seed=1)
    assert len(drawn(validation_share=0.25)) == 10
    for share in (0, 0.6, -1, float("nan")):
        assert "validation_share: must lie above 0" in refused(
            lambda s=share: ade20k(data_root=root, validation_share=s)
        )


def test_odgt_lists_say_what_is_read(listed):
    dataset = ade20k(data_root=listed, validation_share=0.1)
    assert sizes(dataset) == [18, 2, 4]
    assert torch.equal(dataset.test.annotation(3), torch.from_numpy(IDS - 1))
    assert dataset.fingerprint != ade20k(data_root=listed).fingerprint
    (listed / "ade20k/validation.odgt").unlink()
    assert "ade20k/validation.odgt: No such file" in refused(lambda: ade20k(data_root=listed))


def line(**changes):
    image, mask = paths("training", 2)
    fields = {"fpath_img": image, "fpath_segm": mask, "width": 16, "height": 16} | changes
    return json.dumps({key: value for key, value in fields.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", "training.odgt:3: Invalid JSON"),
        ('["a"]', "training.odgt:3: must be a table of fields"),
        (line(fpath_segm=None), "training.odgt:3:fpath_segm: is missing"),
        (line(width=0), "training.odgt:3:width: must be above 0, not 0"),
        (line(height="16"), "training.odgt:3:height: must be a whole number, not '16'"),
        (line(fpath_img="../x.jpg"), "training.odgt:3:fpath_img: ../x.jpg leads out of the folder of the set"),
        (
            line(fpath_segm="/etc/passwd"),
            "training.odgt:3:fpath_segm: /etc/passwd must be relative",
        ),
        (line(fpath_img="a\nb.jpg"), "training.odgt:3:fpath_img: 'a\\nb.jpg' is no path"),
        (line(fpath_img=paths("training", 1)[0]), "training.odgt:3: ADEChallengeData2016/images/training/ADE_train_"),
        (
            line(fpath_img=paths("validation", 1)[0]),
            "validation.odgt:2: ADEChallengeData2016/images/validation/ADE_val",
        ),
    ],
)
def test_a_faulty_line_is_named(listed, text, message):
    replace_line(listed / "ade20k/training.odgt", 3, text)
    assert message in refused(lambda: ade20k(data_root=listed))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (line(width=17), "the list states 17x16 pixels, the picture 16x16"),
        (line(fpath_img=f"{BASE}/no.jpg"), f"{BASE}/no.jpg: no such file"),
    ],
)
def test_a_faulty_file_is_left_out_and_counted_down_to_the_minimum_coverage(listed, text, message):
    replace_line(listed / "ade20k/training.odgt", 3, text)
    refusal = refused(lambda: ade20k(data_root=listed))
    assert message in refusal and "only 23 of 24" in refusal and "training.odgt:3: " in refusal
    dataset = ade20k(data_root=listed, minimum_coverage=0.9)
    assert sum(sizes(dataset)) == 23 and message in dataset.notes[1]
    assert "minimum_coverage: must lie in 0..1" in refused(lambda: ade20k(data_root=listed, minimum_coverage=2))


def test_the_check_tells_of_every_picture_that_cannot_be_used(root, tmp_path):
    for number in (3, 7):
        (root / "ade20k" / paths("training", number)[1]).unlink()
    options = {"data_root": root, "frames": 1, "size": 64, "read": False, "cache": tmp_path, "workers": 0}
    for more in ({"minimum_coverage": 0.9}, {}):  # without the option there is too little to train on
        report = check("ade20k", options=more, **options)
        assert [(fault.kind, "no such file" in fault.message) for fault in report.faults] == [("broken", True)] * 2
        assert "coverage 43 of 45" in report.notes and not any(note.startswith("left out") for note in report.notes)
        assert sum(part.rows for part in report.held) == 43


def test_only_so_many_faults_are_named(root):
    for number in range(25):
        (root / "ade20k" / paths("training", number)[1]).unlink()
    dataset = ade20k(data_root=root, minimum_coverage=0.2)
    assert dataset.notes[0] == "coverage 20 of 45" and dataset.notes[21] == "left out 5 more"
    assert all("no such file" in note for note in dataset.notes[1:21])


def test_grey_and_cmyk_pictures_come_as_colours(root):
    files = [root / "ade20k" / paths("validation", number)[0] for number in range(2)]
    for file, content in zip(files, (GREYS, CMYK), strict=True):
        file.write_bytes(content)
    test = ade20k(data_root=root).test
    grey, colours = test.video(0)[0].long(), test.video(1)[0].long()
    for y, x, level in ((3, 3, 20), (3, 12, 200), (12, 3, 90), (12, 12, 150)):
        assert (grey[y, x] - level).abs().max() <= 1
    for y, x, colour in (
        (3, 3, (0, 255, 255)),
        (3, 12, (0, 127, 127)),
        (12, 3, (255, 0, 255)),
        (12, 12, (127, 0, 127)),
    ):
        assert (colours[y, x] - torch.tensor(colour)).abs().max() <= 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(IDS + 1), "has the id 151, which is no class of the set"),
        (png(IDS)[:-60], "cannot be decoded"),
        (png(IDS).replace(b"IDAT", b"JDAT"), "cannot be decoded"),
    ],
)
def test_a_broken_mask_is_named_when_it_is_read(root, content, message):
    file = root / "ade20k" / paths("validation", 2)[1]
    file.write_bytes(content)
    found = refused(lambda: ade20k(data_root=root).test.annotation(2))
    assert found.startswith(f"ade20k: {file}: ") and message in found


def test_a_mask_of_another_size_is_left_out(root):
    (root / "ade20k" / paths("validation", 2)[1]).write_bytes(png(IDS[:8]))
    dataset = ade20k(data_root=root, minimum_coverage=0.9)
    assert sizes(dataset) == [38, 2, 4] and "the mask is 16x8 pixels, the picture 16x16" in dataset.notes[1]


def test_names_of_the_classes(root):
    file = root / "lists/ade20k/object150_info.csv"
    file.parent.mkdir(parents=True)
    names = ["screen;door;screen", "screen;silver;screen", *(f"thing {number};other" for number in range(3, 151))]
    rows = [f"{number},0.1,{name}" for number, name in enumerate(names, 1)]
    file.write_text("\n".join(["Idx,Ratio,Name", *rows]) + "\n")
    assert ade20k(data_root=root).train.classes[:3] == ("screen;door;screen", "screen;silver;screen", "thing 3")
    file.write_text("\n".join(["Idx,Ratio,Name", *rows[1:]]) + "\n")
    assert "object150_info.csv: expected the classes 1 to 150" in refused(lambda: ade20k(data_root=root))
    file.write_text("Name\nwall\n")
    assert "object150_info.csv:1: needs the columns Idx, Name" in refused(lambda: ade20k(data_root=root))


def test_what_is_not_there_is_named(root, tmp_path):
    assert "ade20k: needs a data root" in refused(lambda: ade20k(data_root=None))
    found = refused(lambda: ade20k(data_root=tmp_path / "none"))
    assert f"none/ade20k/{BASE}/images/training: no such folder" in found and "training.odgt" in found
