"""Numbers that a recipe takes, and epochs divided over stages."""

from __future__ import annotations

import math

import pytest

from bench.recipe import Recipe


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("epochs", (0,)),
        ("batch", (0, -1)),
        ("lr", (0.0, -1.0, math.nan, math.inf)),
        ("momentum", (-1.0, 1.0, 7.0, math.nan)),
        ("weight_decay", (-1.0, math.nan, math.inf)),
        ("warmup", (-0.1, 1.0, math.nan)),
        ("clip_norm", (-1.0, math.nan, math.inf)),
        ("accumulate", (0,)),
    ],
)
def test_numbers_that_cannot_be_name_their_field_and_value(field: str, values: tuple[float, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{field} must be .*, not {value}$"):
            Recipe(**{"epochs": 1, field: value})


@pytest.mark.parametrize("field", ["momentum", "weight_decay", "warmup", "clip_norm"])
def test_nothing_of_it_is_allowed(field: str) -> None:
    assert getattr(Recipe(**{"epochs": 1, field: 0.0}), field) == 0


@pytest.mark.parametrize("epochs", range(1, 12))
@pytest.mark.parametrize("shares", [(1,), (0.6, 0.4), (1, 1, 1), (0.2, 0.4, 0.3, 0.1)])
def test_epochs_are_divided_whole(epochs: int, shares: tuple[float, ...]) -> None:
    parts = Recipe(epochs=epochs).divided(shares)
    assert sum(parts) == epochs
    for part, share in zip(parts, shares, strict=True):
        assert abs(part - epochs * share / sum(shares)) < 1


@pytest.mark.parametrize("shares", [(), (0, 0), (-1, 2)])
def test_shares_that_cannot_be_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="shares of the epochs"):
        Recipe(epochs=3).divided(shares)
