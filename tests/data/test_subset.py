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


@pytest.mark.parametrize(("videos", "share"), [(2, 0.5), (24, 0.0), (24, 1.0)])
def test_what_cannot_be_held_out_is_refused(videos: int, share: float) -> None:
    with pytest.raises(DataError, match="hold"):
        held_out(ToySplit(videos), share)
