"""Target, reconstruction and their amplified difference, as one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latent_inv.errors import ShapeError

from .panels import hatch, outlined, panel
from .text import INK, PAPER, SOFT_INK, drawable, font, metrics_text, width_of

if TYPE_CHECKING:
    from latent_inv.images import Picture
    from latent_inv.result import Metrics

_FACTORS = (1, 2, 3, 4, 5, 8, 10, 15, 20, 30, 40, 50, 80, 100, 150, 200)
_HEADING, _NOTE, _MARGIN, _GAP = 17, 13, 24, 20


class _Cell(NamedTuple):
    heading: str
    note: str
    picture: np.ndarray


def amplification(difference: np.ndarray) -> int:
    """The factor that makes a difference well seen.

    Args:
        difference: absolute differences, any shape, 0..255.
    Returns:
        the largest of a row of round factors that keeps 95 % of the values up to 255; 1 if there is no difference.
    """
    if not difference.any():
        return 1
    # Where nearly all is equal, the few pixels that are not decide.
    high = float(np.quantile(difference, 0.95)) or float(difference.max())
    return max(factor for factor in _FACTORS if factor * high <= 255)


def comparison_image(
    target: Picture, pixels: Any, metrics: Metrics | None = None, *, factor: int | None = None, title: str = ""
) -> np.ndarray:
    """Draw target, reconstruction and amplified difference side by side, or below each other where they are wide.

    Args:
        target: what was to be reconstructed. Pixels of weight 0 are hatched, in the difference too.
        pixels: [3, H, W] in [-1, 1], the reconstruction, of the target's size.
        metrics: written under the reconstruction.
        factor: amplification of the difference; None chooses a round one.
        title: a line on top.
    Returns:
        [H', W', 3] uint8: dark text on white. The difference is |d| of the 8-bit pictures times the factor, black where
        they are equal.
    Raises:
        ShapeError: another size than the target's.
    """
    from latent_inv.images import to_uint8

    wanted, found = to_uint8(target.pixels), to_uint8(pixels)
    if wanted.shape != found.shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (wanted.shape, found.shape)]
        raise ShapeError(f"target and reconstruction must have one size, found {sizes[0]} and {sizes[1]} pixels")
    hidden = np.zeros(wanted.shape[:2], bool) if target.weight is None else target.weight == 0
    difference = np.abs(wanted.astype(np.int16) - found)
    seen = difference[~hidden]
    chosen = amplification(seen) if factor is None else factor
    amplified = np.minimum(difference.astype(np.int64) * chosen, 255).astype(np.uint8)
    size = f"{wanted.shape[1]} × {wanted.shape[0]} pixels"
    share = f"  ·  {_percent(hidden.mean())} hidden" if hidden.any() else ""
    spread = f"mean {seen.mean():.2g}, largest {seen.max()} of 255" if seen.any() else "none: equal in every pixel"
    cells = [
        _Cell("Target", size + share, hatch(panel(wanted), hidden)),
        _Cell("Reconstruction", "" if metrics is None else metrics_text(metrics), panel(found)),
        _Cell(f"Difference × {chosen}", spread, hatch(panel(amplified), hidden)),
    ]
    return _drawn(cells, drawable(title), stacked=wanted.shape[1] > 2.5 * wanted.shape[0])


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else "over 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def _drawn(cells: list[_Cell], title: str, *, stacked: bool) -> np.ndarray:
    from PIL import Image, ImageDraw

    pictures = [outlined(cell.picture) for cell in cells]
    above, below = _HEADING + 12, _NOTE + 14
    widths = [
        max(picture.shape[1], width_of(cell.heading, _HEADING, bold=True), width_of(cell.note, _NOTE))
        for cell, picture in zip(cells, pictures, strict=True)
    ]
    heights = [above + picture.shape[0] + below for picture in pictures]
    top = _MARGIN + (_NOTE + 16 if title else 0)
    inner = max(widths) if stacked else sum(widths) + _GAP * (len(cells) - 1)
    inner = max(inner, width_of(title, _NOTE))
    tall = sum(heights) + _GAP * (len(cells) - 1) if stacked else max(heights)
    # The last line's descenders reach into the margin below, so it looks as wide as the others.
    canvas = Image.new("RGB", (inner + 2 * _MARGIN, top + tall + _MARGIN - 8), PAPER)
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((_MARGIN, _MARGIN - 4), title, INK, font(_NOTE))
    x, y = _MARGIN, top
    for cell, picture, width, height in zip(cells, pictures, widths, heights, strict=True):
        draw.text((x, y - 4), cell.heading, INK, font(_HEADING, bold=True))
        canvas.paste(Image.fromarray(picture), (x, y + above))
        draw.text((x, y + above + picture.shape[0] + 8), cell.note, SOFT_INK, font(_NOTE))
        x, y = (x, y + height + _GAP) if stacked else (x + width + _GAP, y)
    return np.array(canvas)
