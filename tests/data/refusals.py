"""What is refused, by its one line."""

from collections.abc import Callable

import pytest

from bench.data import DataError


def refused(call: Callable[[], object]) -> str:
    """The message of the DataError in which `call` ends, which is one line."""
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)
