"""The other counters agree with ours up to their own conventions, and their failures are results."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch
from torch import Tensor, nn

from bench.cost import Agreement, agreement
from bench.method import Prediction


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 8, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.norm = nn.BatchNorm3d(8)
        self.depthwise = nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0), groups=8)
        self.up = nn.ConvTranspose3d(8, 4, (1, 2, 2), stride=(1, 2, 2))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.norm(self.stem(x)).relu())
        return self.head(self.up(x).mean((2, 3, 4)))


SHAPE = (1, 3, 4, 6, 6)
PIXELS = 4 * 6 * 6
MACS = PIXELS * (8 * 3 * 9 + 8 * 3 + 8 * 4 * 4) + 4 * 5
NORM = 2 * PIXELS * 8
BIASES = PIXELS * 8 + 4 * PIXELS * 4 + 5


class Answers(nn.Module):
    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, x: Tensor) -> Prediction:
        y = self.network(x)
        cost = torch.full((len(x),), MACS)
        if self.kind == "boxes":
            return Prediction(cost, boxes=list(y))
        return Prediction(cost, trace={"point": y}, **{self.kind: y})


def expected(macs: int = MACS, norm: int = NORM, biases: int = BIASES) -> Agreement:
    counters: dict[str, int | None] = {"dispatch": macs, "fvcore": macs + norm, "ptflops": macs + biases}
    return Agreement(counters, macs, uncounted={}, missed={"fvcore": [], "ptflops": []})


def test_three_counters_differ_by_their_conventions_only() -> None:
    assert agreement(Net(), SHAPE) == expected()


@pytest.mark.parametrize("kind", ["logits", "masks", "boxes"])
def test_methods_are_counted_like_networks(kind: str) -> None:
    assert agreement(Answers(Net(), kind), SHAPE) == expected()


def test_a_network_on_meta_tensors_is_given_memory() -> None:
    net = Net().to("meta")
    assert agreement(net, SHAPE) == expected()
    assert net.head.weight.is_meta


def test_what_each_counter_missed_is_said() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0][:, -1].mul(2).softmax(1))

    result = agreement(Recurrent(), (1, 3, 4))
    assert result.counters == {"dispatch": 8 + 3 * 4 * 4 * (4 + 4), "fvcore": 8, "ptflops": 8 + 2}
    assert result.uncounted == {}
    assert result.missed == {"fvcore": ["aten.lstm"], "ptflops": ["aten.mkldnn_rnn_layer"]}


def test_a_tool_that_fails_is_a_result_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ptflops", None)  # importing it raises
    result = agreement(Net(), SHAPE)
    assert result.counters == {"dispatch": MACS, "fvcore": MACS + NORM, "ptflops": None}
    assert "ModuleNotFoundError" in result.missed["ptflops"][0]

    class Untraceable(Net):
        def forward(self, x: Tensor) -> Tensor:
            if torch.jit.is_tracing():
                raise ValueError("not here\nnor there")
            return super().forward(x)

    result = agreement(Untraceable(), SHAPE)
    assert result.counters["fvcore"] is None and result.fvcore_conv_linear is None
    assert result.missed["fvcore"] == ["ValueError: not here"]


def test_a_failure_inside_ptflops_gives_its_last_word(capfd: pytest.CaptureFixture[str]) -> None:
    class Fragile(Net):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            if type(self).calls > 2:  # ours, fvcore, then ptflops
                raise ValueError("worn out")
            return super().forward(x)

    result = agreement(Fragile(), SHAPE)
    assert result.counters == {"dispatch": MACS, "fvcore": MACS + NORM, "ptflops": None}
    assert "worn out" in result.missed["ptflops"][0]
    assert capfd.readouterr() == ("", "")


def test_it_is_silent_and_leaves_the_network_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    net = Net()
    mean = net.norm.running_mean.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agreement(net, SHAPE)
    assert capfd.readouterr() == ("", "")
    assert net.training and all(weight.requires_grad for weight in net.parameters())
    assert torch.equal(mean, net.norm.running_mean)
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in net.modules())
