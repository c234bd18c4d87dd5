"""Pictures as panels: enlarged or reduced to a size that is good to look at, hidden pixels hatched."""

from __future__ import annotations

import numpy as np

#: Aimed at: no side of a panel below MIN_SIDE; the longer side never above MAX_SIDE.
MIN_SIDE = 256
MAX_SIDE = 768
#: A picture of one row is still seen.
MIN_THICKNESS = 16

_HATCH_PERIOD = 12
_HATCH_LIGHT, _HATCH_DARK = 236, 208


def panel(levels: np.ndarray, min_side: int = MIN_SIDE) -> np.ndarray:
    """Bring a picture to the size of a panel.

    Args:
        levels: [H, W, 3] uint8.
        min_side: small pictures are repeated a whole number of times until the shorter side has so many pixels, as
            far as the longer side stays below `MAX_SIDE`; large ones are averaged down.
    Returns:
        [H', W', 3] uint8.
    """
    height, width = levels.shape[:2]
    longer, shorter = max(height, width), min(height, width)
    if longer > MAX_SIDE:
        levels = _reduced(levels, MAX_SIDE / longer)
    else:
        factor = max(1, min(-(-min_side // shorter), MAX_SIDE // longer))
        levels = levels.repeat(factor, axis=0).repeat(factor, axis=1)
    for axis in (0, 1):
        if levels.shape[axis] < MIN_THICKNESS:
            levels = levels.repeat(-(-MIN_THICKNESS // levels.shape[axis]), axis=axis)
    return np.ascontiguousarray(levels)


def _reduced(levels: np.ndarray, factor: float) -> np.ndarray:
    from PIL import Image

    height, width = (max(1, round(side * factor)) for side in levels.shape[:2])
    return np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BOX))


def hatch(picture: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Cover hidden pixels with grey diagonal stripes.

    Args:
        picture: [H', W', 3] uint8, a panel.
        hidden: [H, W] bool of the picture that the panel shows.
    Returns:
        a new [H', W', 3] uint8.
    """
    if not hidden.any():
        return picture
    height, width = picture.shape[:2]
    rows = np.arange(height) * hidden.shape[0] // height
    columns = np.arange(width) * hidden.shape[1] // width
    covered = hidden[rows[:, None], columns[None, :]]
    stripes = (np.arange(height)[:, None] + np.arange(width)[None, :]) % _HATCH_PERIOD < _HATCH_PERIOD // 2
    grey = np.where(stripes, _HATCH_LIGHT, _HATCH_DARK).astype(np.uint8)
    return np.where(covered[..., None], grey[..., None], picture)


def outlined(picture: np.ndarray, level: int = 190) -> np.ndarray:
    """The panel with a line of one pixel around it, so that white pictures have an edge on white paper."""
    return np.pad(picture, ((1, 1), (1, 1), (0, 0)), constant_values=level)
