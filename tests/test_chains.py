"""Chains of layers: what is not alone in what it takes belongs to none."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from bench.calls import one_pass
from bench.chains import find_chains, sole_activations

SHAPE = (1, 3, 2, 4, 4)


class Two(nn.Module):
    """A convolution, its normalisation and activation; `how` says what else happens."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.norm, self.act = how, nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.how == "conv twice":
            x = self.conv(x)
        if self.how == "conv twice, once by name":
            x = self.conv(input=x)
        y = self.conv(x)
        z = self.norm(y)
        out: Tensor = self.act(z)
        return {"conv told": (out, y), "norm told": (out, z)}.get(self.how, out)


@pytest.mark.parametrize(
    ("how", "chain", "alone"),
    [
        ("", [("conv", "norm", "act")], ["act"]),
        ("conv told", [("conv", None, None)], ["act"]),
        ("norm told", [("conv", "norm", None)], []),
        ("conv twice", [], ["act"]),
        ("conv twice, once by name", [], ["act"]),
    ],
)
def test_what_is_used_elsewhere_or_twice_is_left_as_it_is(
    how: str, chain: list[tuple[str, str | None, str | None]], alone: list[str]
) -> None:
    found = find_chains(Two(how), SHAPE)
    assert [(one.conv, one.norm, one.act) for one in found] == chain
    assert sole_activations(Two(how), SHAPE) == alone


def test_a_pass_knows_first_uses_and_leaves_out_layers_of_two_names() -> None:
    network = Two("")
    found = one_pass(network, SHAPE, lambda module: not isinstance(module, Two))
    assert [(call.name, call.first, call.in_place) for call in found.calls] == [
        (name, True, False) for name in ("conv", "norm", "act")
    ]
    assert found.calls[0].source is found.sample and found.sample.is_meta
    network.again = network.act
    assert [call.name for call in one_pass(network, SHAPE, lambda module: True).calls] == ["conv", "norm", ""]
