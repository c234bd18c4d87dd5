"""From a picture of any size to the size that a generator makes, and back; and masks as weights."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from latent_inv.errors import ImageError, ShapeError, SpecError, at
from latent_inv.images.arrays import as_array, is_tensor
from latent_inv.images.load import load
from latent_inv.images.picture import Picture

Box = tuple[int, int, int, int]
Pixels = TypeVar("Pixels")

#: Below this much seen area under Lanczos' kernel its weighted mean is not to be trusted: the box filter's is taken.
_ENOUGH = 0.5


@dataclass(frozen=True)
class Placement:
    """Where the visible part lies in a fitted picture.

    Args:
        height, width: rows and columns of the visible part, which starts at the top left corner.
        box: (left, top, right, bottom) of the part of the upright source that it shows, pixels; right and bottom are
            exclusive.
    """

    height: int
    width: int
    box: Box

    def crop_back(self, pixels: Pixels) -> Pixels:
        """Cut the padding off.

        Args:
            pixels: [..., H, W] array or tensor as large as the fitted picture.
        Returns:
            [..., height, width], a view.
        Raises:
            ShapeError: it is smaller than the visible part.
        """
        array: Any = pixels
        if len(array.shape) < 2 or array.shape[-2] < self.height or array.shape[-1] < self.width:
            raise ShapeError(f"must be at least [..., {self.height}, {self.width}], found {list(array.shape)}")
        result: Pixels = array[..., : self.height, : self.width]
        return result


def crop_and_fit(
    picture: Picture,
    *,
    crop: Box | None = None,
    size: tuple[int, int] | None,
    stride: int = 1,
    field: str = "crop",
) -> tuple[Picture, Placement]:
    """Cut a picture and bring it to a generator's size.

    With `size`, the part with the aspect ratio of `size` is cut from the middle of the crop (or of the picture) and
    resized with Lanczos' kernel, antialiased, in 32-bit floats. Colours are averaged by weight, so unseen ones never
    bleed into seen ones; the weight itself is resized with a box filter. Without `size` nothing is resized: the picture
    is continued by reflection to the right and below until both sides are multiples of `stride`, with weight 0 there.

    Args:
        picture: what to fit.
        crop: (left, top, right, bottom) in pixels of the upright picture, right and bottom exclusive; None = all of it.
        size: (H, W) in pixels, or None for a generator of any size.
        stride: sides must be multiples of this, ≥ 1; used only without `size`.
        field: dotted name of the crop, for messages.
    Returns:
        (the fitted picture, where its visible part lies). A warning is added when it was enlarged or its sides cut.
    Raises:
        ImageError: a crop that is empty or not inside the picture, or that shows unseen pixels only.
        SpecError: `size` or `stride` is no whole number ≥ 1.
    """
    with at(field):
        box = _checked_box(crop, picture)
    if size is None:
        if _whole(stride) is None or stride < 1:
            raise SpecError(f"must be a whole number ≥ 1, found {stride}", field="stride")
        with at(field):
            return _padded(_cut(picture, box), int(stride), box)
    if len(size) != 2 or any(_whole(side) is None or side < 1 for side in size):
        raise SpecError(f"must be (H, W), whole numbers ≥ 1, found {size}", field="size")
    height, width = int(size[0]), int(size[1])
    inner = _centred(box, height, width)
    with at(field):
        cut = _cut(picture, inner)
        warnings = cut.warnings
        if inner != box:
            warnings += (f"cut from {_extent(box)} to {_extent(inner)} pixels to fit the shape {width}x{height}",)
        if cut.height < height or cut.width < width:
            warnings += (f"enlarged from {cut.width}x{cut.height} to {width}x{height} pixels",)
        return replace(_resized(cut, height, width), warnings=warnings), Placement(height, width, inner)


def with_weight(picture: Picture, weight: Any, *, field: str = "weight") -> Picture:
    """Multiply one more weight onto a picture. Pixels whose weight becomes 0 turn mid-grey: nothing may depend on them.

    Args:
        picture: what to weigh.
        weight: white (1) = seen, black (0) = unseen. [H, W] array or tensor (also with one channel) of floats in
            [0, 1], bool, or uint8 0..255; or a path, bytes or PIL image of a grey picture, loaded as any other (so its
            orientation counts, and what is transparent is unseen).
        field: dotted name of the weight, for messages.
    Returns:
        a new picture.
    Raises:
        ShapeError: the sizes differ.
        ImageError: a value out of range, a weight in colour, or one that hides every pixel.
    """
    warnings: tuple[str, ...] = ()
    with at(field):
        if isinstance(weight, np.ndarray) or is_tensor(weight):
            extra = _array_weight(as_array(weight))
        elif isinstance(weight, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
            extra, warnings = _picture_weight(load(weight, field=""))
        else:
            raise ImageError(f"found {type(weight).__name__}; accepted: an array, a tensor, a path, bytes, a PIL image")
        if extra.shape != (picture.height, picture.width):
            raise ShapeError(
                f"must be as large as the picture, {picture.width}x{picture.height}, "
                f"found {extra.shape[1]}x{extra.shape[0]}"
            )
        total = extra if picture.weight is None else extra * picture.weight
        pixels = np.where(total > 0, picture.pixels, np.float32(0.0))
        merged = picture.warnings + tuple(f"{field}: {text}" for text in warnings)
        return Picture(pixels, np.ascontiguousarray(total), merged)


def _array_weight(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[:, :, 0]
    if array.ndim != 2 or array.size == 0:
        raise ShapeError(f"must be [H, W], found {list(array.shape)}")
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    if array.dtype.kind != "f":
        raise ImageError(f"dtype {array.dtype.name} is not accepted; accepted: bool, uint8, floats in [0, 1]")
    smallest, largest = float(array.min()), float(array.max())
    if not (smallest >= 0.0 and largest <= 1.0):
        raise ImageError(f"must be finite and in [0, 1], found {smallest:g} to {largest:g}")
    return array.astype(np.float32)


def _picture_weight(mask: Picture) -> tuple[np.ndarray, tuple[str, ...]]:
    spread = float(np.ptp(mask.pixels, axis=0).max())
    if spread > 16 / 127.5:  # lossy grey files stray by a few levels
        raise ImageError("must be a grey picture (white = seen), found colours")
    # The loader composites on mid-grey: pixel = alpha · colour. So (pixel + alpha) / 2 = alpha · (colour + 1) / 2.
    alpha = np.float32(1.0) if mask.weight is None else mask.weight
    return np.clip((mask.pixels[1] + alpha) / 2, 0.0, 1.0).astype(np.float32), mask.warnings


def _whole(value: Any) -> int | None:
    """A whole number that is no bool, else None."""
    return int(value) if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else None


def _checked_box(crop: Box | None, picture: Picture) -> Box:
    if crop is None:
        return (0, 0, picture.width, picture.height)
    numbers = [_whole(value) for value in crop] if isinstance(crop, (tuple, list)) else []
    left, top, right, bottom = numbers if len(numbers) == 4 else [None] * 4
    if left is None or top is None or right is None or bottom is None:
        raise ImageError(f"must be four whole numbers (left, top, right, bottom), found {str(crop)[:80]}")
    if not (0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height):
        raise ImageError(
            f"must hold at least one pixel and lie inside the picture of {picture.width}x{picture.height}, "
            f"found (left, top, right, bottom) = {(left, top, right, bottom)}"
        )
    return (left, top, right, bottom)


def _centred(box: Box, height: int, width: int) -> Box:
    """The largest box in the middle of `box` with the aspect ratio height : width, to the nearest pixel."""
    left, top, right, bottom = box
    full_h, full_w = bottom - top, right - left
    keep_w = min(full_w, max(1, round(full_h * width / height)))
    keep_h = min(full_h, max(1, round(full_w * height / width)))
    left += (full_w - keep_w) // 2
    top += (full_h - keep_h) // 2
    return (left, top, left + keep_w, top + keep_h)


def _extent(box: Box) -> str:
    return f"{box[2] - box[0]}x{box[3] - box[1]}"


def _cut(picture: Picture, box: Box) -> Picture:
    left, top, right, bottom = box
    if box == (0, 0, picture.width, picture.height):
        return picture
    pixels = np.ascontiguousarray(picture.pixels[:, top:bottom, left:right])
    weight = None if picture.weight is None else np.ascontiguousarray(picture.weight[top:bottom, left:right])
    return Picture(pixels, weight, picture.warnings)


def _padded(picture: Picture, stride: int, box: Box) -> tuple[Picture, Placement]:
    height, width = picture.height, picture.width
    below, right = -height % stride, -width % stride
    place = Placement(height, width, box)
    if not (below or right):
        return picture, place
    pixels = np.pad(picture.pixels, ((0, 0), (0, below), (0, right)), mode="reflect")
    weight = np.zeros(pixels.shape[1:], dtype=np.float32)
    weight[:height, :width] = 1.0 if picture.weight is None else picture.weight
    return Picture(pixels, weight, picture.warnings), place


def _resized(picture: Picture, height: int, width: int) -> Picture:
    if (picture.height, picture.width) == (height, width):
        return picture
    lanczos, box = Image.Resampling.LANCZOS, Image.Resampling.BOX
    if picture.weight is None:
        planes = [_resize(plane, height, width, lanczos) for plane in picture.pixels]
        return Picture(np.clip(np.stack(planes), -1.0, 1.0))
    seen = picture.weight
    weight = np.clip(_resize(seen, height, width, box), 0.0, 1.0)
    # Weighted means: resize(weight · colour) / resize(weight). Lanczos' kernel has negative lobes, so its denominator
    # is only divided by where most of the pixel is seen.
    sharp = _resize(seen, height, width, lanczos)
    planes = []
    for plane in picture.pixels * seen + np.float32(0.0):
        fine = _resize(plane, height, width, lanczos) / np.maximum(sharp, _ENOUGH)
        soft = _resize(plane, height, width, box) / np.where(weight > 0, weight, np.float32(1.0))
        planes.append(np.where(sharp >= _ENOUGH, fine, soft))
    pixels = np.where(weight > 0, np.clip(np.stack(planes), -1.0, 1.0), np.float32(0.0)).astype(np.float32)
    return Picture(np.ascontiguousarray(pixels), weight)


def _resize(plane: np.ndarray, height: int, width: int, kernel: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(plane).resize((width, height), kernel))
