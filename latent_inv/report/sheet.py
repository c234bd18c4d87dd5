"""Many pictures on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from latent_inv.errors import ShapeError

from .panels import outlined, panel
from .text import INK, PAPER, fitted, font

_CELL, _NOTE, _MARGIN, _GAP = 128, 13, 20, 14


def grid(images: Any, captions: Sequence[str] | None = None, *, columns: int = 0) -> np.ndarray:
    """Draw pictures in rows, each with a caption below.

    Args:
        images: [n, 3, H, W] in [-1, 1], n ≥ 1; array, tensor, or a sequence of [3, H, W] of any sizes.
        captions: one a picture; cut where they are wider than a cell.
        columns: pictures in a row; 0 chooses about as many as there are rows, at most 8.
    Returns:
        [H', W', 3] uint8: dark text on white. Small pictures are enlarged by repeating pixels.
    Raises:
        ShapeError: no pictures, or another number of captions.
    """
    from PIL import Image, ImageDraw

    from latent_inv.images import to_uint8

    pictures = [outlined(panel(to_uint8(image), _CELL)) for image in images]
    if not pictures:
        raise ShapeError("at least one picture is needed, found none", field="images")
    if captions is not None and len(captions) != len(pictures):
        text = f"one caption a picture is needed, found {len(captions)} for {len(pictures)}"
        raise ShapeError(text, field="captions")
    across = columns or _columns(len(pictures))
    down = math.ceil(len(pictures) / across)
    wide = max(_CELL, *(picture.shape[1] for picture in pictures))
    tall = max(picture.shape[0] for picture in pictures)
    below = _NOTE + 12 if captions else 0
    size = (
        2 * _MARGIN + across * wide + (across - 1) * _GAP,
        2 * _MARGIN + down * (tall + below) + (down - 1) * _GAP - (6 if captions else 0),
    )
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for index, picture in enumerate(pictures):
        x = _MARGIN + index % across * (wide + _GAP)
        y = _MARGIN + index // across * (tall + below + _GAP)
        canvas.paste(Image.fromarray(picture), (x + (wide - picture.shape[1]) // 2, y))
        if captions:
            text = fitted(captions[index], wide, _NOTE)
            draw.text((x + wide / 2, y + picture.shape[0] + 6), text, INK, font(_NOTE), anchor="ma")
    return np.array(canvas)


def _columns(count: int) -> int:
    """Up to four in one row, then a width between one and two times the height that leaves the fewest places empty."""
    if count <= 4:
        return count
    least = math.ceil(math.sqrt(count))
    return min(range(least, min(8, 2 * least) + 1), key=lambda across: (-count % across, across)) if least < 8 else 8
