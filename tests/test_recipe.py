"""Epochs divided over stages."""

from __future__ import annotations

import pytest

from bench.recipe import Recipe


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
