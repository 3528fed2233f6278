"""Settings, one TOML each: dataset, sizes, budget. Read by `bench.profiles.load`; knows no method by name.

A profile decides everything that a published table leaves open when it is run on data at hand.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from bench.faults import first_fault, hint
from bench.recipe import LARGEST_SEED, Recipe
from bench.records import Strict

Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Scale = Annotated[float, Field(gt=0, le=16)]

LATE: tuple[tuple[str, str, Any], ...] = (
    ("", "scales", [1.0]),
    ("views", "scales", [1.0]),
    ("recipe", "schedule", "cosine"),
    ("recipe", "accumulate", 1),
    ("", "fitted", {}),
)
"""Fields younger than the first records, with their defaults: (part of the profile, field, default)."""


class ProfileError(Exception):
    """A profile cannot be used; the message names file and field."""


class Views(Strict):
    """How test clips are cut.

    clip_videos, video_videos: test videos (the first of a fixed shuffle) that clip-1 and video-1 are scored on; 0: all.
    clips, crops: views a video for video-1 and video-5. scales: factors by which pictures are rescaled, whose masks are
    averaged.
    """

    clip_videos: int = Field(0, ge=0)
    video_videos: int = Field(0, ge=0)
    clips: int = Field(10, ge=1)
    crops: Literal[1, 3] = 3
    scales: tuple[Scale, ...] = Field((1.0,), min_length=1)

    @model_validator(mode="after")
    def _nested(self) -> Self:
        """Videos scored for video-1 are among those scored for clip-1."""
        if self.clip_videos and not 0 < self.video_videos <= self.clip_videos:
            raise ValueError("video_videos must be 1 or more and at most clip_videos")
        return self


class Chosen(Strict):
    """A method with options. frames: of a clip, the profile's first if none are given.

    undecided: whether it decides nothing and costs about as much as the last of the main rows, held against it.
    ablation: whether it is the last of the main rows without a part of it, held against that and the first.
    """

    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    frames: Annotated[int, Field(ge=1)] | None = None
    undecided: bool = False
    ablation: bool = False


class Fitted(Strict):
    """What one network or method has otherwise than the rest: pixels each way, how frames are taken, the recipe."""

    size: Annotated[int, Field(ge=1)] | None = None
    sampling: Literal["dense", "uniform"] | None = None
    stride: Annotated[int, Field(ge=1)] | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)


class _Holding(Strict):
    """A recipe as a profile has it: without unknown fields."""

    recipe: Recipe


class Profile(Strict):
    """One setting.

    fitted: by the name of a network, or of a method that stands on none, what it has otherwise. folds: of
    cross-validation: `reproduce` runs everything in each, as the data set's option "fold".

    network: options given to every network that takes them (such as its width). method: options per method ("vared",
    "arnet"). scales: factors, one drawn for each training sample, by which its pictures are rescaled. seeds: of the
    main pair; other_seeds: of every other row, by default the same. main_rows: "table/row" ids that get `seeds`.
    methods: run besides what the tables need, by name, or as {method, options}. sampling: "dense" (with stride) or
    "uniform". also: profiles that `reproduce` runs after this one. smoke: whether it only shows that everything runs,
    for no verdict. longer_than: the profile that this one is but for its epochs. set_costs: by the name of a method,
    before its network's, why what it costs here was chosen and is no finding.
    """

    name: str
    description: str
    dataset: str
    folds: list[int] = Field(default_factory=list)
    dataset_options: dict[str, Any] = Field(default_factory=dict)
    size: int = Field(ge=1)
    network: dict[str, Any] = Field(default_factory=dict)
    method: dict[str, dict[str, Any]] = Field(default_factory=dict)
    recipe: Recipe
    views: Views
    sampling: Literal["dense", "uniform"] = "dense"
    stride: int = Field(1, ge=1)
    scales: tuple[Scale, ...] = Field((1.0,), min_length=1)
    fitted: dict[str, Fitted] = Field(default_factory=dict)
    tables: list[str]
    frames: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    other_seeds: list[Seed] = Field(default_factory=lambda told: told["seeds"])
    main_rows: list[str] = Field(default_factory=list)
    methods: list[str | Chosen] = Field(default_factory=list)
    set_costs: dict[str, str] = Field(default_factory=dict)
    longer_than: str = ""
    also: list[str] = Field(default_factory=list)
    smoke: bool = False

    @property
    def setting(self) -> str:
        """A digest of what every experiment's identity hangs on: all but names, prose, tables, seeds and methods.

        Where something is fitted, an identity has that of `fitted_to`; this one is then common to all networks.
        """
        prose = {
            "name",
            "description",
            "tables",
            "frames",
            "seeds",
            "other_seeds",
            "main_rows",
            "methods",
            "also",
            "smoke",
            "folds",
            "set_costs",
            "longer_than",
        }
        told = self.model_copy(update={"method": {}}).model_dump(mode="json", exclude=prose)
        for part, field, default in LATE:  # a record made before there was such a field keeps its identity
            inside = told[part] if part else told
            if inside[field] == default:
                del inside[field]
        return _digest(json.dumps(told, separators=(",", ":"), ensure_ascii=False))

    def in_folds(self) -> list[Profile]:
        """The setting in each of its folds; itself where there are none."""
        told = [{**self.dataset_options, "fold": fold} for fold in self.folds]
        return [self.model_copy(update={"dataset_options": options}) for options in told] or [self]

    @property
    def leads(self) -> bool:
        """Whether it is the first of its folds, the one in which networks are timed and looked into."""
        return not self.folds or self.dataset_options.get("fold") == self.folds[0]

    @property
    def across_folds(self) -> str:
        """The digest that the settings of all folds have in common."""
        options = {key: value for key, value in self.dataset_options.items() if key != "fold"}
        return self.model_copy(update={"dataset_options": options}).setting

    @field_validator("folds")
    @classmethod
    def _once(cls, folds: list[int]) -> list[int]:
        """Every fold is run once."""
        if len({*folds}) < len(folds):
            raise ValueError("a fold is named twice")
        return folds

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        """Every recipe that is fitted is one."""
        for name in self.fitted:
            self.fitted_to(name)
        return self

    def fitted_to(self, method: str) -> Profile:
        """The setting as `method`, by the name of its network or else its own, has it.

        Raises:
            ValueError: a field of its recipe that there is not, or a value that cannot be.
        """
        own = self.fitted.get(method.rpartition("/")[2], Fitted())
        told = own.model_dump(exclude={"recipe"}, exclude_none=True)
        try:
            _Holding.model_validate({"recipe": asdict(self.recipe) | own.recipe})
        except ValidationError as error:
            raise ValueError(f"fitted.{method.rpartition('/')[2]}.{first_fault(error, _Holding)}") from None
        recipe = replace(self.recipe, **own.recipe)  # the values as they are written, on which identities hang
        return self.model_copy(update={**told, "recipe": recipe, "fitted": {}})

    def with_batch(self, batch: int) -> Profile:
        """The setting with `batch` training samples a step, and learning rates that follow linearly.

        Goyal et al., "Accurate, Large Minibatch SGD", 2017.
        """

        def rates(recipe: Recipe) -> dict[str, Any]:
            return {"batch": batch, "lr": recipe.lr * (batch / recipe.batch)}  # exactly the same where the batch is

        fitted = {
            name: own.model_copy(update={"recipe": {**own.recipe, **rates(self.fitted_to(name).recipe)}})
            for name, own in self.fitted.items()
        }
        return self.model_copy(update={"recipe": replace(self.recipe, **rates(self.recipe)), "fitted": fitted})

    def method_setting(self, method: str) -> str:
        """A digest of the options that a method, by the name before its network's, gets here; "" if it gets none."""
        options = self.method.get(method)
        return _digest(json.dumps(options, sort_keys=True)) if options else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def names() -> list[str]:
    """The built-in profiles."""
    folder = resources.files(__package__)
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(name: str) -> Profile:
    """A built-in profile by name, or one from a path that ends in .toml.

    Raises:
        ProfileError: no such profile, not TOML, or an unknown or ill-typed field.
    """
    if name.endswith(".toml"):
        path = Path(name)
    elif name in names():
        path = Path(str(resources.files(__package__) / f"{name}.toml"))
    else:
        raise ProfileError(f"no profile {name!r}, nor a path ending in .toml; {hint(name, names())}")
    try:
        return Profile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ProfileError(f"{path.name}: {first_fault(error, Profile)}") from None
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path}: {error}") from None
