"""An experiment in its run folder: how it gets from nothing to a record, and goes on from where it was cut off."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import weights
from bench.accuracy.pooled import NothingToScoreError
from bench.checkpoint import Checkpoint
from bench.controls import CLIPS, controls
from bench.cost import CountError, agreement
from bench.data.sampling import Sampling
from bench.data.split import annotated
from bench.details import DetailsError, details_of
from bench.distributed import first, from_first, in_turns, wait
from bench.environment import environment
from bench.evaluation import Scored, executed, score, scoring_of
from bench.experiment.build import build_method, check_names, dataset_of, identify
from bench.experiment.plan import Experiment, ExperimentError
from bench.files import locked, remove_leftovers, sealed, unsealed, write_atomically
from bench.profiles import Profile
from bench.records import Cost, Figure, Record, Store
from bench.static import Static
from bench.task import CLASSIFICATION
from bench.training import TrainingError, train

ONE_VIEW = {"clip_videos": 0, "video_videos": 0, "clips": 1, "crops": 1, "scales": (1.0,)}
"""Of every validation sample."""

ANNOUNCED = 2.0
"""Seconds between two announcements of the share done."""

UNMEASURABLE = (TrainingError, CountError, NothingToScoreError, DetailsError)
"""What ends an experiment with a reason."""


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
        check_names(profile)
        self.announce, self.asked = announce, profile
        self.experiment, self.profile = experiment, (profile := profile.fitted_to(experiment.method))
        self.dataset = dataset_of(profile, experiment.frames, data_root)
        self.method = build_method(experiment, profile, len(self.dataset.test.classes))
        answers = getattr(self.method, "task", CLASSIFICATION).kind
        asked = found.task if (found := annotated(self.dataset.test)) else "classes"
        if answers != asked:
            raise ExperimentError(f"{experiment.label}: answers with {answers}; {self.dataset.name} asks for {asked}")
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
        for line in weights.notes(self.method) if first() else []:
            logging.getLogger(__name__).warning("%s", line)
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
            scores = {str(key): float(value) for key, value in json.loads(text).items()}
            return scores if sound and "seconds" in scores else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def _progress(self, file: Path) -> Callable[[float], None]:
        """Keeps the share done in a file that other processes can read, and announces it.

        What scored other weights than these goes: it may have outlived them, where their checkpoints were set aside.
        """
        last = [0.0]

        def call(share: float) -> None:
            if first() and time.monotonic() - last[0] > ANNOUNCED:
                last[0] = time.monotonic()
                self.scores.unlink(missing_ok=True)
                write_atomically(file, str(share).encode(), lasting=False)
                self.announce(share)

        return call

    def measure(self) -> Record:
        """Trains if needed, reads the test set once, and stores the record.

        What the method accounts is held against what runs before the training, and again on the test set; and what it
        says of itself must be what a record can store.
        """
        try:
            details_of(self.method)
            few = np.arange(min(4, len(self.dataset.validation)))
            executed(self.method, self.dataset.validation, self.sampling, few, len(few))
            return self._scored(self.train())
        except UNMEASURABLE as error:
            self._note(getattr(error, "accumulate", 0))
            return self._stored(self._record(status="failed", reason=str(error)))

    def load_trained(self) -> None:
        """Puts the weights that training ended with into the method.

        Raises:
            ExperimentError: there are none. CheckpointError: they cannot be read.
        """
        last = Checkpoint(self.folder / "checkpoint.pt").load(self.method)
        if last.get("stage") != len(self.method.stages(self.profile.recipe)):
            raise ExperimentError(
                f"{self.experiment.label}: no trained checkpoint in {self.folder}; `train` or `evaluate` makes it"
            )

    def again(self) -> Record:
        """Scores the trained checkpoint anew and replaces the record; the seconds of training stay those of before.

        Raises:
            ExperimentError: nothing trained is there, or it cannot be scored. However it ends, what is stored, record
                and scores on validation, stays until there is what replaces it.
        """
        self.load_trained()
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
            raise ExperimentError(f"{self.experiment.label}: {error}; nothing was replaced") from error
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
        told = details_of(self.method)
        record = self._record(status="done", validation=validation, seconds=seconds, details=told, **figures)
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
            notes=[*self.dataset.all_notes(), *weights.notes(self.method)],
            parameters=self.method.parameter_count,
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
        options = {"dataset_options": self.profile.dataset_options}
        return {**profile, **device, **options, **self._shared(), **self.in_force}

    def _shared(self) -> dict[str, Any]:
        """By what records are found that may be compared, though each fold and each network has its own setting."""
        folds = {"folds": self.asked.folds, "across_folds": self.asked.across_folds} if self.asked.folds else {}
        return folds | ({"across_networks": self.asked.setting} if self.asked.fitted else {})

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
