"""Small videos for every test of readers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_videos import write_video

MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video() -> MakeVideo:
    return write_video
