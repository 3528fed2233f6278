"""What a picture of the inside of a network is of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from bench.records import Identity
from bench.report import text
from bench.report.figures.picture import slug
from bench.tables.comparison import described

MOST = 100
"""Letters of a file's name before its digest: names of methods may be long."""


@dataclass(frozen=True)
class Subject:
    """One method with its options on one data set, all seeds. where: profile and store. apart: other settings."""

    store: str
    run: Identity
    where: str
    apart: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return described(self.run.method, self.run.options)

    def told(self, seeds: int) -> str:
        """Of what, on what, how many seeds: the end of a caption."""
        settings = f"; {self.apart}" if self.apart else ""
        of = f"{self.where}, test clips of {self.run.dataset}, {text.seeds(seeds)}"
        return f"{self.name}, {text.frames(self.run.frames)}, {of}{settings}."

    def stem(self, kind: str) -> str:
        """Stable, and apart from that of any other subject."""
        alike = self.run.model_copy(update={"seed": 0}).id + self.apart + self.where
        digest = hashlib.sha256(alike.encode()).hexdigest()[:6]
        words = slug(kind, self.run.method, f"{self.run.frames}f", self.run.profile, self.store)
        return f"{words[:MOST]}-{digest}"
