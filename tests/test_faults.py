"""What a schema refuses is said in one line."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from bench.faults import first_fault
from bench.records import Figure


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"value": 1.0}, {"value": "x", "low": []}], "1.value: Input should be a valid number"),
        ([{"value": 1.0, "hihg": 2.0}], "0.hihg: Extra inputs are not permitted"),
        ("no list", "Input should be a valid list"),
    ],
)
def test_the_first_fault_is_one_line_with_its_place_if_it_has_one(given: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(list[Figure]).validate_python(given)
    assert first_fault(caught.value).startswith(said) and "\n" not in first_fault(caught.value)
