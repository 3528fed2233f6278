"""A row of a table under a profile: its identity, its run folder, and how it gets from nothing to a record.

`results`/records holds what is finished and is never run again; `results`/runs/<id> holds checkpoint, log and lock of
what is under way. Several processes may work on one folder: each takes what no other holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from bench import registry
from bench.accuracy.pooled import NothingToScoreError
from bench.checkpoint import Checkpoint
from bench.controls import CLIPS, controls
from bench.cost import CountError, agreement
from bench.data import Dataset
from bench.data.builders import build as build_dataset
from bench.data.sampling import Sampling
from bench.data.split import annotated
from bench.distributed import first, from_first, in_turns, wait
from bench.environment import environment
from bench.evaluation import Scored, executed, score, scoring_of
from bench.files import locked, remove_leftovers, sealed, unsealed, write_atomically
from bench.method import Method
from bench.profiles import Chosen, Profile
from bench.records import Cost, Figure, Identity, Record, Store
from bench.static import Static
from bench.tables import schema
from bench.task import CLASSIFICATION
from bench.training import TrainingError, bf16_on_cpu, train

ONE_VIEW = {"clip_videos": 0, "video_videos": 0, "clips": 1, "crops": 1, "scales": (1.0,)}
"""Of every validation sample."""

UNMEASURABLE = (TrainingError, CountError, NothingToScoreError)
"""What ends an experiment with a reason."""


class ExperimentError(Exception):
    """An experiment cannot be planned; the message names table, method or row."""


@dataclass(frozen=True)
class Experiment:
    """What one row needs: a method with its options, at a number of frames, from one seed."""

    method: str
    options: tuple[tuple[str, Any], ...]
    frames: int
    seed: int

    @property
    def label(self) -> str:
        """One line for people."""
        options = "".join(f" {key}={value}" for key, value in self.options)
        frames = "1 frame" if self.frames == 1 else f"{self.frames} frames"
        return f"{self.method}{options}, {frames}, seed {self.seed}"


def plan(profile: Profile, tables: Sequence[str] | None, methods: Sequence[str] | None) -> list[Experiment]:
    """What the chosen tables (default: the profile's, and its methods) need, each experiment once, short clips first.

    Raises:
        ExperimentError: a table that the profile does not measure, a main row that there is not, or nothing to run.
    """
    for table in tables or []:
        if table not in profile.tables:
            raise ExperimentError(f"{table}: profile {profile.name} measures {', '.join(profile.tables)}")
    found: dict[Experiment, None] = {}
    mains = set(profile.main_rows)
    for table in tables or profile.tables:
        for row in schema.load(table).rows:
            run = row.experiment
            main = f"{table}/{row.id}" in mains
            mains.discard(f"{table}/{row.id}")
            if run is None or run.frames not in profile.frames or (methods and run.method not in methods):
                continue
            options = frozen(run.options)
            for seed in profile.seeds if main else profile.other_seeds:
                found[Experiment(run.method, options, run.frames, seed)] = None
    if mains and not tables:
        raise ExperimentError(f"profile {profile.name}: main_rows: no row {', '.join(sorted(mains))}")
    for entry in [] if tables else profile.methods:
        chosen = Chosen(method=entry) if isinstance(entry, str) else entry
        if not methods or chosen.method in methods:
            options = frozen(chosen.options)
            count = chosen.frames or profile.frames[0]
            found |= {Experiment(chosen.method, options, count, seed): None for seed in profile.other_seeds}
    if not found:
        raise ExperimentError(f"profile {profile.name}: none of its rows fits method {', '.join(methods or ['any'])}")
    return sorted(found, key=lambda experiment: (experiment.frames, experiment.seed))


def frozen(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Options as they stand in an experiment, which can be a key: sorted, lists as tuples."""

    def part(value: Any) -> Any:
        return tuple(map(part, value)) if isinstance(value, list) else value

    return tuple(sorted((key, part(value)) for key, value in options.items()))


def dataset_of(profile: Profile, frames: int, data_root: Path | None) -> Dataset:
    """The profile's dataset, with videos long enough for clips of `frames`."""
    return build_dataset(
        profile.dataset, data_root=data_root, frames=frames, size=profile.size, options=profile.dataset_options
    )


def build_method(experiment: Experiment, profile: Profile, classes: int) -> Method:
    """The untrained method, its weights drawn from the experiment's seed."""
    torch.manual_seed(experiment.seed)
    torch.backends.cudnn.allow_tf32 = False  # or "fp32" on a GPU is not
    for_network, for_method = registry.split_options(experiment.method, dict(experiment.options))
    options = {**profile.method.get(experiment.method.partition("/")[0], {}), **for_method}
    method = registry.build(
        experiment.method,
        frames=experiment.frames,
        size=profile.size,
        classes=classes,
        network_options={**_shrinking(experiment.method, profile), **for_network},
        **options,
    )
    for module in method.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return method.to("cuda" if torch.cuda.is_available() else "cpu")


def _shrinking(method: str, profile: Profile) -> dict[str, Any]:
    """Of the profile's network options those that the network under `method` takes.

    Raises:
        ExperimentError: an option that no network takes, or weights, on which identities could not hang.
    """
    if registry.WEIGHTS in profile.network:
        raise ExperimentError(f"profile {profile.name}: network: weights are given by --option weights=FILE")
    theirs, others = registry.split_options(method, profile.network)
    if unknown := others.keys() - registry.network_options():
        raise ExperimentError(f"profile {profile.name}: network: no network takes {', '.join(sorted(unknown))}")
    return theirs


def identify(experiment: Experiment, profile: Profile, dataset: Dataset, method: Method) -> Identity:
    """Everything that the result hangs on; of weights to start from, their content and not their path."""
    options = dict(experiment.options)
    if registry.WEIGHTS in options:
        files = registry.weight_files(experiment.method, options[registry.WEIGHTS])
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        options[registry.WEIGHTS] = ",".join(f"sha256:{digest}" for digest in digests)
    return Identity(
        method=experiment.method,
        options=options,
        frames=experiment.frames,
        size=profile.size,
        profile=profile.name,
        setting=profile.setting,
        dataset=dataset.name,
        data_fingerprint=dataset.fingerprint,
        seed=experiment.seed,
        method_revision=method.revision,
        dataset_revision=dataset.revision,
        method_setting=profile.method_setting(experiment.method.partition("/")[0]),
    )


class Run:
    """One experiment in one results folder."""

    def __init__(
        self,
        experiment: Experiment,
        profile: Profile,
        results: Path,
        data_root: Path | None,
        announce: Callable[[float], None] = lambda share: None,
    ) -> None:
        self.announce, profile = announce, profile.fitted_to(experiment.method)
        self.experiment, self.profile = experiment, profile
        self.dataset = dataset_of(profile, experiment.frames, data_root)
        self.method = build_method(experiment, profile, len(self.dataset.test.classes))
        answers = getattr(self.method, "task", CLASSIFICATION).kind
        asked = found.task if (found := annotated(self.dataset.test)) else "classes"
        if answers != asked:
            raise ExperimentError(f"{experiment.label}: answers with {answers}; {self.dataset.name} asks for {asked}")
        if profile.recipe.precision == "bf16" and self.method.device.type == "cpu" and not bf16_on_cpu():
            raise ExperimentError(
                f"profile {profile.name}: precision bf16: this processor has none, and would train on garbage"
            )
        self.identity = identify(experiment, profile, self.dataset, self.method)
        self.store = Store(results / "records")
        self.folder = results / "runs" / self.identity.id
        self.scores = self.folder / "validation.json"
        self.sampling = Sampling(profile.sampling, profile.stride, profile.scales)
        self.in_force: dict[str, int] = {}  # of the protocol, where memory did not suffice for what was asked

    @contextmanager
    def lock(self, wait: bool = False) -> Iterator[bool]:
        """Whether this process got the run; another one may hold it. The system frees it however a process ends.

        wait: until that one has ended. Of several processes that torchrun started the first gets it for all.
        """
        if not first():
            yield from_first(False)
            return
        with locked(self.folder / "lock", wait) as held:
            if held:  # what a killed process left
                (self.folder / "progress").unlink(missing_ok=True)
                remove_leftovers(self.folder)
                for folder in (self.store.folder, self.store.folder / "inspected"):
                    remove_leftovers(folder, self.identity.id)
            yield from_first(held)

    def stored(self) -> Record | None:
        """The record, if there is one; a broken one is set aside. Only for who holds the lock.

        Raises:
            RecordError: in all processes: another version wrote it.
        """
        return next(in_turns(lambda rank, size: [self.identity] if rank == 0 else [], self.store.kept))

    def train(self) -> dict[str, float]:
        """Trains to the end, from the last checkpoint if there is one; gives the scores on the validation split."""
        started = time.monotonic()
        self._trained()
        found = from_first(self._validation() if first() else None)
        if found is None:
            found = from_first({**self._on_validation(), "seconds": time.monotonic() - started})
            self._keep_scores(found)
        return found

    def _trained(self) -> None:
        """Trains to the end, if that is not reached yet."""
        share = self.folder / "progress"
        accumulate = train(
            self.method,
            self.dataset.train,
            self.sampling,
            self.profile.recipe,
            self.experiment.seed,
            self.folder,
            progress=self._progress(share),
        )
        self._note(accumulate)
        if first():
            share.unlink(missing_ok=True)

    def _note(self, accumulate: int) -> None:
        """Takes down in how many parts batches were computed, where the recipe says fewer."""
        if accumulate > self.profile.recipe.accumulate:
            self.in_force["accumulate"] = accumulate

    def _on_validation(self) -> dict[str, float]:
        """Scores what is trained on the validation split."""
        views = self.profile.views.model_copy(update=ONE_VIEW)
        scored = score(self.method, self.dataset.validation, self.sampling, views)
        return {
            **{name: one.value for name, one in scored.figures.items()},
            "cost": float(scored.samples["cost"].mean()),
        }

    def _keep_scores(self, scores: dict[str, float]) -> None:
        if first():
            write_atomically(self.scores, sealed(json.dumps(scores, indent=1)))
        wait()

    def _validation(self) -> dict[str, float] | None:
        """The scores on the validation split, if they are there and whole."""
        try:
            text, sound = unsealed(self.scores.read_bytes())
            return {str(key): float(value) for key, value in json.loads(text).items()} if sound else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def _progress(self, file: Path, every: float = 2.0) -> Callable[[float], None]:
        """Keeps the share done in a file that other processes can read, and announces it."""
        last = [0.0]

        def call(share: float) -> None:
            if first() and time.monotonic() - last[0] > every:
                last[0] = time.monotonic()
                write_atomically(file, str(share).encode(), lasting=False)
                self.announce(share)

        return call

    def measure(self) -> Record:
        """Trains if needed, reads the test set once, and stores the record.

        What the method accounts is held against what runs before the training, and again on the test set.
        """
        try:
            executed(
                self.method, self.dataset.validation, self.sampling, np.arange(min(4, len(self.dataset.validation)))
            )
            return self._scored(self.train())
        except UNMEASURABLE as error:
            self._note(getattr(error, "accumulate", 0))
            return self._stored(self._record(status="failed", reason=str(error)))

    def again(self) -> Record:
        """Scores the trained checkpoint anew and replaces the record; the seconds of training stay those of before.

        Raises:
            ExperimentError: nothing trained is there, or it cannot be scored. However it ends, what is stored, record
                and scores on validation, stays until there is what replaces it.
        """
        last, what = Checkpoint(self.folder / "checkpoint.pt").load(self.method), self.experiment.label
        if last.get("stage") != len(self.method.stages(self.profile.recipe)):
            raise ExperimentError(f"{what}: no trained checkpoint in {self.folder}; without --again it is trained")
        stored = self.stored()
        before = from_first(self._validation() if first() else None) or {}
        try:
            self._trained()  # to the end already
            began = time.monotonic()
            scores = from_first({**self._on_validation(), "seconds": time.monotonic() - began})
            scores["seconds"] = (stored.seconds if stored else {}).get(
                "train", before.get("seconds", scores["seconds"])
            )
            record = self._scored(dict(scores))
        except UNMEASURABLE as error:
            raise ExperimentError(f"{what}: {error}; nothing was replaced") from error
        self._keep_scores(scores)
        return record

    def _scored(self, validation: dict[str, float]) -> Record:
        """Reads the test set once, and stores the record."""
        started = time.monotonic()
        scored = score(self.method, self.dataset.test, self.sampling, self.profile.views)
        self.in_force["evaluation_batch"] = scored.together
        samples, missing = self._controlled(scored.samples)
        seconds = {"train": validation.pop("seconds"), "evaluate": time.monotonic() - started}
        figures = {**self._figures(scored), **self._static_costs()}
        figures["missing"] |= missing
        record = self._record(status="done", validation=validation, seconds=seconds, **figures)
        return self._stored(record, samples)

    def _stored(self, record: Record, samples: pd.DataFrame | None = None) -> Record:
        """The record as it is in the store from now on; of several processes the first writes it."""
        if first():
            record = self.store.write(record, samples, self._log())
        return from_first(record)

    def _log(self) -> bytes:
        """The lines that the training wrote, if it got that far."""
        file = self.folder / "log.jsonl"
        return file.read_bytes() if file.exists() else b""

    def _controlled(self, samples: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
        """The per-video table with the controls of a method that decides; and why some of them are missing."""
        if not self.method.decisions():
            return samples, {}
        table, missing = controls(self.method, self.dataset, self.sampling, min(CLIPS, len(samples)))
        return samples.merge(table, on="index", how="left"), missing

    def _record(self, **values: Any) -> Record:
        return Record(
            identity=self.identity,
            protocol=self._protocol(),
            environment=environment(),
            notes=list(self.dataset.all_notes()),
            parameters=self.method.parameter_count,
            details=self.method.details(),
            **values,
        )

    def _static_costs(self) -> dict[str, int | None]:
        """Of a static network: multiply-adds, and fvcore's total beside them."""
        if type(self.method) is not Static:  # what is derived from it may not see all of a sample
            return {}
        found = agreement(self.method.network, self.method.spec.shape(1))
        return {"static_macs": self.method.macs, "fvcore_macs": found.counters["fvcore"]}

    def _protocol(self) -> dict[str, Any]:
        stated = {"views", "recipe", "sampling", "stride", "scales", "network", "method", "smoke"}
        profile = self.profile.model_dump(mode="json", include=stated)
        device = {"device": self.method.device.type, "evaluation_batch": scoring_of(self.dataset.test).together}
        device |= {"unit": self.method.spec.unit, "clips": self.method.spec.clips}
        folds = {"folds": self.profile.folds, "across_folds": self.profile.across_folds} if self.profile.folds else {}
        return {**profile, **device, "dataset_options": self.profile.dataset_options, **folds, **self.in_force}

    def _figures(self, scored: Scored) -> dict[str, Any]:
        cost, figures = scored.samples["cost"], {}
        for name, (value, low, high) in scored.figures.items():
            ends = {"low": low, "high": high}
            figures[name] = Figure(value=value, **{end: found for end, found in ends.items() if not math.isnan(found)})
        unnamed = annotated(self.dataset.test) is None and "video-5" not in figures
        return {
            "figures": figures,
            "missing": {"video-5": "fewer than 20 classes"} if unnamed else {},
            "cost": Cost(average=float(cost.mean()), maximum=int(cost.max()), minimum=int(cost.min())),
            "executed": scored.executed,
        }


def run(
    experiment: Experiment,
    profile: Profile,
    results: Path,
    data_root: Path | None,
    announce: Callable[[float], None] = lambda share: None,
    *,
    wait: bool = False,
) -> Record | None:
    """The record of an experiment, run if it is not stored yet, or what is stored is broken.

    None while another process is at it; wait: until that has ended, and then goes on from where it did. announce:
    called every few seconds of training with the share done.
    """
    one = Run(experiment, profile, results, data_root, announce)
    if record := from_first(one.store.find(one.identity)):
        return record
    with one.lock(wait) as held:
        if not held:
            return None
        return one.stored() or one.measure()


def single(
    name: str,
    *,
    profile: Profile,
    frames: int,
    seed: int,
    options: dict[str, Any],
    results: Path,
    data_root: Path | None,
    until: Literal["train", "evaluate", "again"],
) -> Record | dict[str, float]:
    """One method on the profile's dataset: trained (scores on validation), or trained and evaluated (a record).

    until: where it ends; "again" scores what is trained already once more.

    Raises:
        ExperimentError: another process is at the same experiment; or see `Run.again`.
    """
    experiment = Experiment(name, tuple(sorted(options.items())), frames, seed)
    announce = _printed(experiment.label)
    if until == "evaluate":
        record = run(experiment, profile, results, data_root, announce)
        if record is not None:
            return record
    else:
        one = Run(experiment, profile, results, data_root, announce)
        with one.lock() as held:
            if held:
                return one.train() if until == "train" else one.again()
    raise ExperimentError(f"{experiment.label}: another process is running it in {results}")


def _printed(label: str) -> Callable[[float], None]:
    """Prints the share done and the time left, at every tenth."""
    started, told, first = time.monotonic(), [0.0], list[float]()

    def call(share: float) -> None:
        if not first:
            first.append(share)  # a resumed training does not start at zero
        if share - told[0] >= 0.1 and share > first[0]:
            told[0] = share
            left = (time.monotonic() - started) * (1 - share) / (share - first[0])
            print(f"{label}: {share:.0%} trained, about {left / 60:.1f} min left", file=sys.stderr, flush=True)

    return call
