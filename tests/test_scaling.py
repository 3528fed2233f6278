"""What several devices are said to take follows from what one takes, by closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench import cli
from bench.estimate import Estimate
from bench.experiment.plan import Experiment
from bench.scaling import Assumed, scaled

ONE = Estimate(
    Experiment("i3d", (), 8, 0), reading=2.0, computing=3.0, steps=360, clip_reading=0.2, clip_computing=0.3,
    clips=7200, batch=64, gradients=40_000_000, memory=0,
)  # fmt: skip
ALONE = Assumed(0, 1e9)


def test_one_device_takes_what_was_measured() -> None:
    found = scaled(ONE, 1, ALONE)
    assert (found.step, found.exchange, found.samples, found.bound) == (5.0, 0.0, 64, "computing")
    assert found.hours == ONE.hours == (5 * 360 + 0.5 * 7200) / 3600


def test_eight_devices_share_samples_and_exchange_gradients() -> None:
    found = scaled(ONE, 8, ALONE)
    assert (found.samples, found.computing, found.reading) == (8, 3 / 8, 2 / 8)
    assert found.exchange == pytest.approx(2 * 7 / 8 * 0.04)
    assert found.step == pytest.approx(5 / 8 + 0.07)
    assert found.hours == pytest.approx((found.step * 360 + 0.5 / 8 * 7200) / 3600)


def test_processes_that_read_hide_the_reading_or_bind() -> None:
    assert scaled(ONE, 1, Assumed(1, 1e9)).step == 3.0
    slow = replace(ONE, reading=12.0)
    assert scaled(slow, 1, Assumed(2, 1e9)).step == 6.0 and scaled(slow, 1, Assumed(2, 1e9)).bound == "reading"
    assert scaled(slow, 1, Assumed(4, 1e9)).bound == "computing"


def test_a_slow_link_binds_and_a_batch_that_cannot_be_dealt_is_told() -> None:
    assert scaled(ONE, 64, Assumed(0, 1e7)).bound == "exchange"
    assert scaled(ONE, 48, ALONE).samples == 0


@given(st.integers(1, 512), st.integers(0, 16), st.floats(1e6, 1e12))
def test_more_devices_never_compute_or_read_longer(devices: int, readers: int, link: float) -> None:
    fewer, more = (scaled(ONE, count, Assumed(readers, link)) for count in (devices, devices + 1))
    assert more.computing <= fewer.computing and more.reading <= fewer.reading and more.exchange >= fewer.exchange
    assert more.step >= more.exchange and 2 * ONE.gradients / link >= more.exchange


def test_numbers_of_devices_that_are_none_are_refused() -> None:
    for devices in ("1,x", "0", "-8"):
        found = CliRunner().invoke(cli.app, ["reproduce", "--estimate", "--devices", devices])
        assert found.exit_code == 2 and "--devices" in found.output
    assert CliRunner().invoke(cli.app, ["reproduce", "--devices", "8"]).exit_code == 2
