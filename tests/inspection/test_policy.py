"""From stored decisions to shares of features: by hand, and against what a reduced network accounts."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

from bench.evaluation import stored
from bench.inspection.policy import NoDecisionsError, computed, dearest, shares
from bench.inspection.store import InspectionError, Unit, units_of
from bench.method import InputSpec
from vared.method import VaRed

UNITS = [
    Unit(name="a", channel="a.channel", temporal="a.temporal", counts=[9, 5, 3], frames=[7, 4, 2], macs=300),
    Unit(name="b", channel="b.channel", temporal="", counts=[4, 2], frames=[7], macs=100),
]


def decided(**columns: list[int]) -> pd.DataFrame:
    return pd.DataFrame({f"decision.{name.replace('_', '.')}": values for name, values in columns.items()})


TABLE = decided(a_channel=[1, 2, 6, 4], a_temporal=[1, 4, 3, 2], b_channel=[1, 2, 3, 2])


def test_the_dearest_open_option_decides() -> None:
    assert dearest(TABLE, "a.channel", 3).tolist() == [0, 1, 1, 2]
    found = shares(TABLE, UNITS)
    assert found["a"].tolist() == pytest.approx([1, 5 / 9 * 2 / 7, 5 / 9, 3 / 9 * 4 / 7])
    assert found["b"].tolist() == [1, 0.5, 1, 0.5]


def test_units_weigh_by_their_cost() -> None:
    assert computed(TABLE, UNITS).tolist() == pytest.approx(list(shares(TABLE, UNITS) @ [0.75, 0.25]))


@pytest.mark.parametrize(
    ("table", "units", "words"),
    [
        (TABLE, [], "no record says"),
        (TABLE.drop(columns="decision.b.channel"), UNITS, "no decisions were stored at 'b.channel'"),
        (TABLE.assign(**{"decision.b.channel": 0}), UNITS, "no choice among 2 options"),
        (TABLE.assign(**{"decision.b.channel": 4}), UNITS, "no choice among 2 options"),
        (TABLE.assign(**{"decision.b.channel": 0.5}), UNITS, "no choice among 2 options"),
    ],
)
def test_what_cannot_be_told_says_why(table: pd.DataFrame, units: list[Unit], words: str) -> None:
    with pytest.raises(NoDecisionsError, match=words):
        shares(table, units)


def test_details_of_another_form_are_refused_in_one_line() -> None:
    assert units_of({}) == []
    with pytest.raises(InspectionError, match=r"details\.units: "):
        units_of({"units": [{"name": "a"}]})
    with pytest.raises(InspectionError, match=r"details\.units: "):
        units_of({"units": 3})


def test_shares_are_what_a_reduced_network_accounts_for_its_convolutions() -> None:
    """Odd channels and frames; of the account, gates and cheap operations are taken off by hand."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(3, 7, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(7), nn.ReLU(), nn.Conv3d(7, 6, 3), nn.Flatten(1)
    )
    method = VaRed(network, InputSpec("clip", 8, 5), search_space=2).eval()
    units = units_of(method.details())
    trace = {point: options[torch.randint(len(options), (32,))] for point, options in method.decisions().items()}
    table = pd.DataFrame({f"decision.{point}": stored(weights) for point, weights in trace.items()})
    rest = method.fixed_macs + sum(unit.gate.macs for unit in method.units if unit.gate)
    cheap = sum(_cheap(unit, trace) for unit in method.units)
    assert sum(unit.macs for unit in units) == sum(unit.geometry.macs for unit in method.units)
    found = computed(table, units) * sum(unit.macs for unit in units)
    assert found.tolist() == pytest.approx((method.account(trace) - rest - cheap).tolist())
    assert found.nunique() > 2


def _cheap(unit: object, trace: dict[str, torch.Tensor]) -> torch.Tensor:
    """The scales of the absorbable kind: one multiply-add for each value of a made channel that is computed."""
    geometry, policy = unit.geometry, unit.policy  # type: ignore[attr-defined]
    channel, temporal = trace[f"{policy}.channel"][:, 1] > 0, trace.get(f"{policy}.temporal")
    half = torch.zeros(len(channel)) if temporal is None else (temporal[:, 0] <= 0).float()
    frames = geometry.frames - half * (geometry.frames - geometry.computed(2))
    made = geometry.channels - unit.counts[1]  # type: ignore[attr-defined]
    return channel * made * frames * geometry.pixels
