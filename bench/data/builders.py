"""Datasets by name. Knows where each is kept and what its labels allow; imports only the one that is asked for."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError, validate_call

from bench.data.split import DataError, Dataset
from bench.faults import first_fault

if TYPE_CHECKING:
    from bench.data.video.reader import VideoReader

DATASETS = {
    "digits": "bench.data.digits:digits",
    "ut_interaction": "bench.data.builders:ut_interaction",
    "surveillance_fight": "bench.data.builders:surveillance_fight",
    "list": "bench.data.builders:listed",
    "folders": "bench.data.builders:folders",
    "composed": "bench.data.composed.builder:composed",
    "jhmdb": "bench.data.jhmdb:jhmdb",
    "furg_fire": "bench.data.furg_fire:furg_fire",
    "scenes": "bench.data.scenes:scenes",
    "camvid": "bench.data.camvid:camvid",
    "ade20k": "bench.data.ade20k:ade20k",
    "kinetics_400": "bench.data.public.builder:public:kinetics_400",
    "mini_kinetics_200_xie": "bench.data.public.builder:public:mini_kinetics_200_xie",
    "mini_kinetics_200_ibm": "bench.data.public.builder:public:mini_kinetics_200_ibm",
    "moments_in_time": "bench.data.public.builder:public:moments_in_time",
    "ucf101": "bench.data.public.builder:public:ucf101",
    "hmdb51": "bench.data.public.builder:public:hmdb51",
    "something_something_v1": "bench.data.public.builder:public:something_something_v1",
    "something_something_v2": "bench.data.public.builder:public:something_something_v2",
    "jester": "bench.data.public.builder:public:jester",
    "diving48": "bench.data.public.builder:public:diving48",
    "activitynet": "bench.data.public.builder:public:activitynet",
    "fcvid": "bench.data.public.builder:public:fcvid",
}
"""Name -> "module:function", or "module:function:first argument"; its other parameters are the dataset's options."""

FASTEST = 1000  # frames a second
GENERATED = frozenset(("digits", "scenes"))
"""Made on the spot, of nothing that anybody filmed: only their pictures may be passed on."""


def build(name: str, *, data_root: Path | None, frames: int, size: int, options: dict[str, Any]) -> Dataset:
    """Builds a dataset for clips of `frames` frames, cropped to `size` pixels.

    data_root: the folder that holds the real sets, by default the environment variable VARED_DATA.

    Raises:
        DataError: no such dataset or option, an option of the wrong type, no data root, or data that cannot be used.
    """
    if name not in DATASETS:
        raise DataError(f"no dataset {name!r}{_hint(name, DATASETS)}; there are {', '.join(DATASETS)}")
    module, function, *first = DATASETS[name].split(":")
    builder = partial(getattr(import_module(module), function), *first)
    dataset = called(builder, name, {"data_root": data_root, "frames": frames, "size": size}, options)
    assert isinstance(dataset, Dataset)
    return dataset


def called(builder: Callable[..., Any], name: str, given: dict[str, Any], options: dict[str, Any]) -> Any:
    """What a builder of the set `name` gives for what is `given`, as far as it takes it, and the user's options.

    Raises:
        DataError: no such option, an option of the wrong type, or what the builder raises.
    """
    parameters = inspect.signature(builder).parameters
    root = given["data_root"] or (Path(os.environ["VARED_DATA"]) if os.environ.get("VARED_DATA") else None)
    given = {**given, "data_root": root}
    known = sorted(set(parameters) - set(given))
    for option in options:
        if option not in known:
            raise DataError(f"{name}: no option {option!r}{_hint(option, known)}; there are {', '.join(known)}")
    taken = {key: value for key, value in given.items() if key in parameters}
    try:
        return validate_call(builder)(**taken, **options)
    except ValidationError as error:
        raise DataError(f"{name}: {first_fault(error)}") from None


def ut_interaction(
    *,
    data_root: Path | None,
    size: int,
    fold: int = 0,
    rate: float = 15.0,
    short_side: int | None = None,
    minimum_coverage: float = 0.98,
) -> Dataset:
    """UT-Interaction (Ryoo and Aggarwal, SDHA 2010), segmented: 6 two-person interactions, 120 videos.

    fold 0-9 leaves the sequences fold+1 and fold+11 out for the test and the two of the next fold for validation; a
    sequence is a group. rate: frames a second. short_side: 8/7 of the crop by default.

    Raises:
        DataError: the set is not there, or no such fold.
    """
    from bench.data.lists import Splitting, list_dataset

    return list_dataset(
        set_folder(data_root, "ut_interaction") / "clips.csv",
        _reader(size, short_side, rate),
        Splitting(fold=fold, validation_fold=(fold + 1) % 10),
        name="ut_interaction",
        columns={"label": "cls", "group": "sequence"},
        flip=True,
        minimum_coverage=minimum_coverage,
    )


def surveillance_fight(
    *,
    data_root: Path | None,
    size: int,
    fold: int = 0,
    seed: int = 0,
    rate: float = 15.0,
    short_side: int | None = None,
    minimum_coverage: float = 0.98,
) -> Dataset:
    """Surveillance Camera Fight (Akti et al., IPTA 2019): 2 classes, 300 videos of two seconds.

    fold 0-4 is the test; its sources (groups) are in no other fold. seed: of the sources drawn for validation. rate:
    frames a second. short_side: 8/7 of the crop by default.

    Raises:
        DataError: the set is not there, or no such fold.
    """
    from bench.data.lists import Splitting, list_dataset

    return list_dataset(
        set_folder(data_root, "surveillance_fight") / "clips.csv",
        _reader(size, short_side, rate),
        Splitting(fold=fold, seed=seed),
        name="surveillance_fight",
        columns={"label": "cls"},
        flip=True,
        minimum_coverage=minimum_coverage,
    )


def listed(
    *,
    data_root: Path | None,
    size: int,
    path: Path,
    root: Path | None = None,
    fold: int | None = None,
    validation_fold: int | None = None,
    test_share: float = 0.2,
    validation_share: float = 0.15,
    seed: int = 0,
    rate: float | None = None,
    short_side: int | None = None,
    flip: bool = False,
    minimum_coverage: float = 0.98,
) -> Dataset:
    """Any CSV list of videos, as `bench.data.lists.list_dataset` reads it.

    path: the list; root: what its paths are relative to, by default its own folder. Both are looked for in the data
    root if there is one, unless absolute. rate: frames a second, by default every frame. short_side: 8/7 of the crop.

    Raises:
        DataError: as `list_dataset`.
    """
    from bench.data.lists import Splitting, list_dataset

    base = data_root or Path()
    return list_dataset(
        base / path,
        _reader(size, short_side, rate),
        Splitting(fold, validation_fold, test_share, validation_share, seed),
        root=base / root if root else None,
        flip=flip,
        minimum_coverage=minimum_coverage,
    )


def folders(
    *,
    data_root: Path | None,
    size: int,
    path: Path,
    test_share: float = 0.2,
    validation_share: float = 0.15,
    seed: int = 0,
    rate: float | None = None,
    short_side: int | None = None,
    flip: bool = False,
    minimum_coverage: float = 0.98,
) -> Dataset:
    """Any folder with a folder of videos for each class; `path` and the rest as in `listed`.

    Raises:
        DataError: as `bench.data.lists.folder_dataset`.
    """
    from bench.data.lists import Splitting, folder_dataset

    return folder_dataset(
        (data_root or Path()) / path,
        _reader(size, short_side, rate),
        Splitting(test_share=test_share, validation_share=validation_share, seed=seed),
        flip=flip,
        minimum_coverage=minimum_coverage,
    )


def _reader(size: int, short_side: int | None, rate: float | None) -> VideoReader:
    """A reader whose pictures are a little larger than the crop, as 256 is to 224."""
    from bench.data.video.reader import VideoReader

    if rate is not None and not 0 < rate <= FASTEST:
        raise DataError(f"rate: must be above 0 and at most {FASTEST} frames a second, got {rate}")
    return VideoReader(short_side or round(size * 8 / 7), rate)


def set_folder(data_root: Path | None, name: str) -> Path:
    """The folder of a set under the data root."""
    if data_root is None:
        raise DataError(f"{name}: needs a data root; set VARED_DATA, or --data-root, to the folder that holds {name}/")
    return data_root / name


def _hint(name: str, known: Iterable[str]) -> str:
    """What may have been meant."""
    near = get_close_matches(name, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""
