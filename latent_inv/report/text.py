"""Text on pictures, and numbers as words, the same wherever they are shown."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latent_inv.result import Metrics

INK = (28, 32, 38)
SOFT_INK = (98, 106, 117)
PAPER = (255, 255, 255)

#: The family of all text that is drawn; comes with matplotlib, so it is there on every machine.
FAMILY = "DejaVu Sans"


@lru_cache(maxsize=16)
def font(size: int, bold: bool = False) -> Any:
    """A font for Pillow, `size` in pixels."""
    from PIL import ImageFont

    return ImageFont.truetype(_font_file(bold), size)


@lru_cache(maxsize=2)
def _font_file(bold: bool = False) -> str:
    import matplotlib

    return f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans{'-Bold' if bold else ''}.ttf"


@lru_cache(maxsize=1)
def _known_characters() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_font_file()).get_charmap())


def drawable(text: str) -> str:
    """The text on one line, with "?" for characters that the font does not have."""
    known = _known_characters()
    return "".join(character if ord(character) in known else "?" for character in " ".join(text.split()))


def width_of(text: str, size: int, bold: bool = False) -> int:
    """Width of a line of text in pixels."""
    return int(font(size, bold).getlength(text)) + 1


def fitted(text: str, width: int, size: int, bold: bool = False) -> str:
    """The text, cut with "…" where it is wider than `width` pixels."""
    text = drawable(text)
    if width_of(text, size, bold) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # the longest beginning that fits
        middle = (low + high + 1) // 2
        if width_of(text[:middle].rstrip() + "…", size, bold) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def psnr_text(metrics: Metrics) -> str:
    """PSNR with its unit; at the cap the pictures are equal."""
    return "equal in every bit" if metrics.mse == 0 else f"{metrics.psnr_db:.2f} dB"


def metrics_text(metrics: Metrics) -> str:
    """PSNR and, where known, LPIPS, on one line."""
    psnr = psnr_text(metrics) if metrics.mse == 0 else f"PSNR {psnr_text(metrics)}"
    return psnr if metrics.lpips is None else f"{psnr}  ·  LPIPS {metrics.lpips:.4f}"
