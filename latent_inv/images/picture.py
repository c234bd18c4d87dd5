"""The one form of a picture inside the library, and the limits that a source must keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latent_inv.errors import ImageError, LimitError, ShapeError


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright sRGB picture and how much of each pixel was seen.

    Args:
        pixels: [3, H, W] float32, C-contiguous, range [-1, 1].
        weight: [H, W] float32, C-contiguous, range [0, 1]; 0 = unseen (transparent, masked, padding). None = all 1.
        warnings: sentences for the person who asked, e.g. that only the first of several frames was used.
    Raises:
        ShapeError: `pixels` or `weight` has another shape.
        ImageError: another dtype, a value that is not finite or out of range, or a weight that is 0 everywhere.
    """

    pixels: np.ndarray
    weight: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_array(self.pixels, "pixels", low=-1.0)
        if self.pixels.ndim != 3 or self.pixels.shape[0] != 3 or self.pixels.size == 0:
            raise ShapeError(f"pixels must be [3, H, W] with H and W ≥ 1, found {_shape(self.pixels)}")
        if self.weight is None:
            return
        _check_array(self.weight, "weight", low=0.0)
        if self.weight.shape != self.pixels.shape[1:]:
            raise ShapeError(f"weight must be [{self.height}, {self.width}] like pixels, found {_shape(self.weight)}")
        if not self.weight.any():
            raise ImageError("the weight (alpha or mask) hides every pixel; at least one pixel must be seen")

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[2])


@dataclass(frozen=True)
class Limits:
    """What a source may be at most; checked before any pixel is decoded.

    Args:
        max_bytes: size of an encoded file, bytes.
        max_pixels: height × width of the decoded picture.
        max_side: longer side, pixels.
        min_side: shorter side, pixels.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 40_000_000
    max_side: int = 16384
    min_side: int = 1

    def check_bytes(self, size: int) -> None:
        """Raise LimitError when a file of `size` bytes is over the limit."""
        if size > self.max_bytes:
            raise LimitError(
                f"the file has {size} bytes, at most {self.max_bytes} are accepted: "
                "make the picture smaller or store it as JPEG"
            )

    def check_size(self, height: int, width: int) -> None:
        """Raise LimitError when a side or the number of pixels is over its limit, ImageError for a side under it."""
        found = f"the picture is {width}x{height} pixels (width x height)"
        if min(height, width) < self.min_side:
            raise ImageError(f"{found}, each side must be at least {self.min_side}")
        if max(height, width) > self.max_side:
            raise LimitError(f"{found}, a side of at most {self.max_side} is accepted: make it smaller first")
        if height * width > self.max_pixels:
            raise LimitError(f"{found}, at most {self.max_pixels} pixels in all are accepted: make it smaller first")


def _check_array(array: object, name: str, *, low: float) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not array.flags.c_contiguous:
        found = f"{array.dtype} array" if isinstance(array, np.ndarray) else type(array).__name__
        raise ImageError(f"{name} must be a contiguous float32 array, found {found}")
    if array.size == 0:
        raise ShapeError(f"{name} must hold at least one value, found {_shape(array)}")
    smallest, largest = float(array.min()), float(array.max())
    # Written so that NaN, which is in no order, fails too.
    if not (low <= smallest and largest <= 1.0):
        raise ImageError(f"{name} must be finite and in [{low:g}, 1], found {smallest:g} to {largest:g}")


def _shape(array: np.ndarray) -> str:
    return str(list(array.shape))
