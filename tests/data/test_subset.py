"""What is held out shares no source with what is kept, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import ToySplit

from bench.data import DataError
from bench.data.subset import held_out


def test_sources_are_on_one_side_and_rows_keep_what_belongs_to_them() -> None:
    split = ToySplit(24)
    kept, out = held_out(split, 0.25)
    assert len(out) == 6 and sorted([*kept.rows, *out.rows]) == list(range(24))
    assert not set(kept.groups) & set(out.groups)
    for part in (kept, out):
        for place, row in enumerate(part.rows):
            assert part.targets[place] == split.targets[row]
            assert part.attributes["motion"][place] == split.attributes["motion"][row]
            assert torch.equal(part.video(place), split.video(row))
    again = held_out(split, 0.25)[1]
    assert np.array_equal(out.rows, again.rows)


def test_more_is_held_out_where_a_batch_needs_it() -> None:
    split = ToySplit(40)  # 20 sources of two videos
    sizes = [len(held_out(split, 0.1, least)[1]) for least in (1, 4, 5, 20)]
    assert sizes == [4, 4, 6, 20]
    with pytest.raises(DataError, match="21 videos cannot be held out of 40"):
        held_out(split, 0.1, 21)


def test_one_source_cannot_be_parted() -> None:
    with pytest.raises(DataError, match="from 1 sources"):
        held_out(ToySplit(2))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        held_out(ToySplit(24), share)
