"""From a trained run to a stored inspection: one pass over test clips, and a look at the decisions on record."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.data.builders import GENERATED
from bench.data.sampling import chosen_rows, test_batches
from bench.data.split import annotated
from bench.environment import environment
from bench.evaluation import attributes
from bench.experiment.plan import Experiment
from bench.experiment.run import Run, run
from bench.faults import hint
from bench.flow import to_device
from bench.inspection import clips, png
from bench.inspection.policy import NoDecisionsError, computed
from bench.inspection.redundancy import ALONG, FIGURES, Likeness, Redundancy, as_clips, likeness, watched
from bench.inspection.settings import Settings
from bench.inspection.store import (
    Inspection,
    InspectionError,
    InspectionIdentity,
    InspectionRecord,
    InspectionStore,
    Layer,
    Pair,
    Sheet,
    units_of,
)
from bench.memory import Halving, MemoryShortError
from bench.method import Batch
from bench.profiles import Profile
from bench.records import read_samples
from bench.short_of_memory import short_of_memory

TOGETHER = 16
"""Clips in a batch."""


def inspect(
    experiment: Experiment,
    profile: Profile,
    results: Path,
    data_root: Path | None,
    settings: Settings,
    announce: Callable[[float], None] = lambda share: None,
) -> Inspection:
    """The inspection of a run, made if it is not stored in `results`, or what is stored failed; the run is trained and
    evaluated before, if it is not either. announce: called with the share of the clips seen, or of the training done.

    Raises:
        InspectionError: the run failed, another process is at it, or the settings name no convolution of it.
    """
    found = run(experiment, profile, results, data_root, announce)
    if found is None or found.status == "failed":
        why = found.reason if found else f"another process is running it in {results}"
        raise InspectionError(f"{experiment.label}: {why}")
    one = Run(experiment, profile, results, data_root, announce)
    _check_layer(one.method, settings.layer)
    store = InspectionStore(results / "records" / "inspected")
    identity = InspectionIdentity(run=one.identity, settings=settings)
    record = _done(store.find(identity))
    if record is None:
        with one.lock(wait=True):
            record = _done(store.kept(identity)) or store.write(*_inspected(one, identity, announce))
    return Inspection("yours", store.path(identity), record)


def _done(record: InspectionRecord | None) -> InspectionRecord | None:
    """What is stored, but for a failure: what it failed for may be mended, and a look costs little."""
    return None if record is None or record.status == "failed" else record


def _inspected(
    one: Run, identity: InspectionIdentity, announce: Callable[[float], None]
) -> tuple[InspectionRecord, pd.DataFrame | None]:
    """The inspection of a run that was trained, and its figures by clip; what fails on the way is its reason.

    Raises:
        MemoryShortError: memory does not suffice: a larger device may do better.
    """
    one.train()  # to the end already: the weights
    started = time.monotonic()
    protocol = {"split": "test", "views": "one centre clip", "batch": TOGETHER, "device": one.method.device.type}
    record = InspectionRecord(
        identity=identity,
        status="done",
        protocol=protocol,
        environment=environment(),
        generated=one.dataset.name in GENERATED,
        classes=list(one.dataset.test.classes),
    )
    try:
        values, samples = _Look(one, identity.settings, announce).found()
    except (RuntimeError, NoDecisionsError) as error:  # RuntimeError: torch's own
        if short_of_memory(error):
            raise MemoryShortError(f"{one.experiment.label}: inspection: out of memory") from None
        reason = str(error).partition("\n")[0] or type(error).__name__
        return record.model_copy(update={"status": "failed", "reason": reason}), None
    values["seconds"] = round(time.monotonic() - started, 1)
    return record.model_copy(update=values), samples


class _Look:
    """One look at a trained run. missing: what was not looked at, and why."""

    def __init__(self, one: Run, settings: Settings, announce: Callable[[float], None]) -> None:
        self.one, self.settings, self.announce = one, settings, announce
        self.method, self.split = one.method.eval(), one.dataset.test
        self.rows = chosen_rows(self.split, settings.clips)
        self.units = units_of(self.method.details())
        self.missing: dict[str, str] = {}

    def found(self) -> tuple[dict[str, Any], pd.DataFrame]:
        """Fields of the record, and the figures by clip."""
        if self.method.decisions():
            self.missing["redundancy"] = (
                "measured of networks that compute everything, and this one decides what it computes"
            )
            redundancy = None
        else:
            self.missing["decisions"] = "it decides nothing"
            redundancy = Redundancy(self.method, self.settings.rule)
        fields: dict[str, Any] = {"units": self.units, "sheet": self._sheet()}
        samples = self._clips(redundancy)
        if redundancy:
            fields |= {"layers": _layers(redundancy), "left_out": _named(redundancy.left_out)}
            fields["pairs"] = self._pairs(redundancy)
        return {**fields, "missing": self.missing}, samples

    def _batches(self, rows: NDArray[np.int64]) -> Any:
        method = self.method
        for batch in test_batches(self.split, method.spec, self.one.sampling, 1, 1, TOGETHER, rows, leave_out=True):
            yield to_device(batch, method.device)

    def _clips(self, redundancy: Redundancy | None) -> pd.DataFrame:
        """One row a clip that can be read; `rows` are those from here on."""
        seen, motion, figures = list[NDArray[np.int64]](), list[NDArray[np.float32]](), list[Tensor]()
        compared = Halving("inspection", partial(_compared, redundancy)) if redundancy else None
        for number, batch in enumerate(self._batches(self.rows)):
            seen.append(batch.index.cpu().numpy())
            motion.append(clips.estimated_motion(batch.sample, self.method.spec))
            figures += compared(batch) if compared else []
            self.announce(min(1.0, (number + 1) * TOGETHER / len(self.rows)))
        if not seen:
            raise InspectionError(f"{self.one.dataset.name}: none of the clips to look at can be read")
        self.rows = rows = np.concatenate(seen)
        split = self.split
        about = {"index": rows, "group": split.groups[rows].astype(str), "target": split.targets[rows]}
        table = pd.DataFrame({**about, "estimated.motion": np.concatenate(motion)})
        if redundancy:
            found = torch.cat(figures).numpy().astype(np.float32)
            table = pd.concat([table, pd.DataFrame(found, columns=list(FIGURES))], axis=1)
        return pd.concat([table, attributes(split, rows)], axis=1)

    def _sheet(self) -> Sheet | None:
        """The dearest and cheapest clips of some classes, by the decisions on record."""
        why = "" if self.settings.classes else "no classes were asked for"
        why = why if self.units else self.missing.get("decisions", "it does not state what its decisions compute")
        if why := "its answers are no classes" if annotated(self.split) else why:
            self.missing["clips"] = why
            return None
        record = self.one.store.read(self.one.identity)
        table = read_samples(self.one.store.folder / f"{record.identity.id}.json", record).set_index("index")
        strips = clips.extremes(computed(table, self.units), table["target"], self.split.classes, self.settings.classes)
        found = clips.sheet(self.split, self.method.spec, self.one.sampling, strips)
        if found is None:
            self.missing["clips"] = "none of them can be read"
        return found

    def _pairs(self, redundancy: Redundancy) -> list[Pair]:
        """The most similar maps of one layer in the first clip."""
        names = {_plain(name): name for name in redundancy.layers}
        wanted = self.settings.layer or next(iter([*names][len(names) // 2 :]), "")
        if wanted not in names:
            self.missing["feature maps"] = f"layer {wanted!r} is left out" if wanted else "every layer is left out"
            return []
        batch: Batch = next(iter(self._batches(self.rows[:1])))
        seen = list[Tensor]()
        with (
            torch.no_grad(),
            watched(self.method, lambda name, maps: seen.append(maps) if name == names[wanted] else None),
        ):
            self.method(batch.sample)
        maps, why = as_clips(seen[0], 1)
        assert maps is not None, why
        return [pair for along in ALONG if (pair := _closest(maps[0], along, wanted, int(self.rows[0]), self.settings))]


def _compared(redundancy: Redundancy, batch: Batch) -> Tensor:
    return redundancy.add(batch.sample)


def _check_layer(method: nn.Module, layer: str) -> None:
    names = [_plain(name) for name, module in method.named_modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    if layer and layer not in names:
        raise InspectionError(f"no convolution {layer!r}; {hint(layer, names)}")


def _plain(name: str) -> str:
    """A layer's name without that of the network around it."""
    return name.removeprefix("network.")


def _named(left_out: dict[str, str]) -> dict[str, str]:
    return {_plain(name): why for name, why in left_out.items()}


def _layers(redundancy: Redundancy) -> list[Layer]:
    """What was summed up, layer by layer."""
    found = []
    for name, sums in redundancy.layers.items():
        channels, frames, height, width = sums.shape
        figures = {key: value for key, value in zip(FIGURES, sums.mean.tolist(), strict=True) if value == value}
        found.append(
            Layer(name=_plain(name), channels=channels, frames=frames, height=height, width=width, figures=figures)
        )
    return found


def _closest(maps: Tensor, along: str, layer: str, video: int, settings: Settings) -> Pair | None:
    """The pair of (C, T, H, W) with the highest correlation along time or channels; None where no pair has one."""
    span = maps.max() - maps.min() if settings.rule.scale == "range" else torch.ones((), device=maps.device)
    grouped = (maps if along == "temporal" else maps.transpose(0, 1)).double()
    like: Likeness = likeness(grouped.flatten(2) / span.clamp(min=1e-30), settings.rule, False)
    cc = like.cc.nan_to_num(-2).masked_fill(~like.counted, -2)
    group, first, second = (int(place) for place in np.unravel_index(int(cc.argmax()), tuple(cc.shape)))
    if cc[group, first, second] < -1:
        return None
    both = torch.cat([grouped[group, first], grouped[group, second]], 1)
    grey = (both - both.min()) / (both.max() - both.min()).clamp(min=1e-30)
    return Pair(
        along=along,  # type: ignore[arg-type]
        layer=layer,
        video=video,
        of=group,
        places=(first, second),
        cc=float(cc[group, first, second]),
        rmse=float(like.rmse[group, first, second]),
        picture=png.encode((grey * 255).round().to(torch.uint8).cpu().numpy()),
    )
