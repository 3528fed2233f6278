"""Imported once by the process from which all harmed ones are forked: what they need is loaded, and nothing started."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import tomllib

import sklearn.datasets  # noqa: F401
import torch
from faults.tiny import METHOD, PROFILE

import bench.cli
import bench.inspection.run
import bench.report
import bench.reproduce  # noqa: F401
from bench.experiment.build import build_method, dataset_of
from bench.experiment.plan import Experiment
from bench.profiles import Profile

torch.set_num_threads(1)
_profile = Profile.model_validate(tomllib.loads(PROFILE))
build_method(Experiment(METHOD, (), 8, 0), _profile, 12)
dataset_of(_profile, 8, None)
