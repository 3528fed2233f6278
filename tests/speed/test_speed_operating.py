"""Operating points: texts, draws that are dealt evenly, and those of the published rows."""

from __future__ import annotations

import pytest
import torch
from toys import EarlyExit, Toy

from bench.method import Trace
from bench.policy import Forced, Learned
from bench.speed import operating
from bench.speed.operating import Asked, even_rounds, parse, published, timed_rows
from bench.speed.record import SpeedError


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("learned", Asked("learned")),
        ("all", Asked("all")),
        ("random:20", Asked("random", (20.0,))),
        ("matched:20.0", Asked("matched", (20.0,))),
        ("matched:20:18:22.1", Asked("matched", (20.0, 18.0, 22.1))),
    ],
)
def test_a_policy_is_read_and_written(text: str, asked: Asked) -> None:
    assert parse(text) == asked == parse(str(asked))
    assert asked.drawn == (":" in text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "learnd", "all:3", "random", "random:x", "random:1:0:2", "matched:"),
        *("matched:0", "matched:-1", "matched:1:2", "matched:nan", "matched:inf", "matched:3:4:5", "matched:3:1:2"),
    ],
)
def test_what_is_no_policy_is_one_line(text: str) -> None:
    with pytest.raises(SpeedError, match="must be learned, all, random:GFLOPS or matched:GFLOPS"):
        parse(text)


def test_a_policy_reaches_its_cost_within_half_a_percent_and_its_bounds() -> None:
    method = EarlyExit()  # 15 or 75 multiply-adds
    asked = Asked("matched", (45e-9,))
    policy = operating.policy(asked, "toy", method, 256, 0)
    assert isinstance(policy, Forced)
    cost = method.account(policy.trace)
    assert len(cost) == 256 and abs(float(cost.double().mean()) / 45 - 1) <= 0.005
    rows = [policy.rows(torch.arange(8) + 8 * number).trace["exit"] for number in range(32)]
    assert torch.equal(torch.cat(rows), policy.trace["exit"])  # the batches of a timing use every draw once
    with pytest.raises(SpeedError, match=r"toy: policy matched:4\.5e-08:4e-08:5e-08"):
        operating.policy(Asked("matched", (45e-9, 40e-9, 50e-9)), "toy", method, 256, 0)
    with pytest.raises(SpeedError, match=r"toy: policy random:1\.0"):
        operating.policy(Asked("random", (1.0,)), "toy", method, 256, 0)


@pytest.mark.parametrize("draws", [6, 7, 32, 100, 255])
def test_a_short_timing_takes_draws_of_the_same_mean(draws: int) -> None:
    method = Layers()
    policy = operating.policy(parse("matched:4e-5"), "toy", method, draws, 0)
    assert isinstance(policy, Forced)
    cost = method.account(policy.trace)
    assert len(cost) == draws and abs(float(cost.double().mean()) / 4e4 - 1) <= 0.005 and len(cost.unique()) > 3
    other = operating.policy(parse("matched:4e-5"), "toy", method, draws, 1)
    assert isinstance(other, Forced) and not torch.equal(method.account(other.trace), cost)


class Layers(Toy):
    """Eleven layers of unequal cost, each in full or half."""

    def decisions(self) -> dict[str, torch.Tensor]:
        return {str(layer): torch.eye(2) for layer in range(11)}

    def account(self, trace: Trace) -> torch.Tensor:
        return torch.stack([(500 + 400 * int(p)) * (2 - rows[:, 1].long()) for p, rows in trace.items()]).sum(0)


def test_learned_and_all_and_methods_that_decide_nothing() -> None:
    method = EarlyExit()
    assert isinstance(operating.policy(Asked("learned"), "toy", method, 0, 0), Learned)
    everything = operating.policy(Asked("all"), "toy", method, 0, 0)
    assert isinstance(everything, Forced) and method.account(everything.trace).tolist() == [75]
    assert isinstance(operating.policy(Asked("matched", (45e-9,)), "toy", Toy(), 256, 0), Learned)


@pytest.mark.parametrize("rounds", [6, 7, 24, 32, 33, 100, 257])
@pytest.mark.parametrize("batch", [1, 3, 8, 32, 300])
def test_every_draw_is_used_equally_often(rounds: int, batch: int) -> None:
    whole, draws = even_rounds(rounds, batch)
    assert whole >= rounds and draws == min(operating.DRAWS, rounds * batch)
    used = torch.bincount(torch.arange(whole * batch) % draws)
    assert len(used) == draws and int(used.min()) == int(used.max())
    assert even_rounds(whole, batch)[0] == whole or rounds * batch < operating.DRAWS


def test_a_published_row_has_its_printed_cost_bounds_size_and_twin() -> None:
    point = published("table1", "8f-sp2")
    assert (point.a, point.a_options) == ("vared/r2plus1d_18", {"search_space": 2})
    assert (point.b, point.b_options) == ("r2plus1d_18", {})
    assert (point.frames, point.size, point.classes) == (8, 128, 200)
    assert str(point.policy) == "matched:20.0:18.0:22.1" and point.row == "table1/8f-sp2"


def test_without_printed_bounds_the_average_alone_and_the_twin_is_that_of_the_group() -> None:
    point = published("table10", "16f-channel")
    assert str(point.policy) == "matched:46.3" and point.a_options["dimensions"] == "channel"
    assert (point.b, point.frames, point.size) == ("r2plus1d_18", 16, 128)
    assert [published("table5", row).frames for row in ("16f-i3d-vared", "32f-i3d-vared")] == [16, 32]


def test_a_static_row_is_its_own_point() -> None:
    point = published("table1", "8f-static")
    assert (point.a, point.a_options) == (point.b, point.b_options) == ("r2plus1d_18", {})
    assert point.policy == Asked("learned") and point.size == 128


def test_rows_to_time_print_a_speed_and_have_a_twin() -> None:
    assert timed_rows("table1") == ["8f-sp2", "8f-sp3", "16f-sp2", "32f-sp2"]
    assert timed_rows("table3") == [] and str(published("table3", "tpn-8f-vared").policy) == "matched:21.5"
    assert "activitynet-uni" not in timed_rows("uni_adafocus")


@pytest.mark.parametrize(
    ("table", "row", "said"),
    [
        ("table1", "9f", "table1: no row '9f'; there are 8f-static"),
        ("table5", "32f-x3d", "table5/32f-x3d: X3D-M is designed for 16 frames"),
        ("table4", "arnet", "table4/arnet: its table has no static network"),
    ],
)
def test_rows_that_cannot_be_timed_say_why(table: str, row: str, said: str) -> None:
    with pytest.raises(SpeedError, match=said):
        published(table, row)
