"""Small pictures inside JSON: PNG in base64, without loss."""

from __future__ import annotations

import base64
import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode(pixels: NDArray[np.uint8]) -> str:
    """Grey (H, W) or colour (H, W, 3) pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def decode(text: str) -> NDArray[np.uint8]:
    """The pixels again.

    Raises:
        ValueError: it is no PNG.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as picture:
            return np.asarray(picture)
    except (OSError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"not a PNG: {error}") from None
