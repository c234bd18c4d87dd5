"""Arrays and tensors to planes: layout, dtype and range, each by a stated rule and never by guessing.

Layout: [H, W] is grey. With three dimensions channels come last if the last dimension is 1, 3 or 4, else first if the
first is. A fourth dimension may lead if it is 1. Four channels are RGB and alpha. So [3, H, 3] is read as channels
last; give such a picture channels last, or as a file.
Range: uint8, uint16 and bool span their whole type. Floats must declare one of `RANGES`; alpha is in the same range as
colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latent_inv.errors import ImageError, ShapeError, SpecError

if TYPE_CHECKING:
    from latent_inv.images.picture import Limits

#: Ranges that a float picture can declare.
RANGES = ((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0))

_INTEGER_RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "bool": (0.0, 1.0)}

#: Rounding of one float32 operation on values of size 1, with room for a few of them; larger excess is a wrong range.
_SLACK = 1e-6


def is_tensor(source: object) -> bool:
    """Tell a torch tensor by what it can do, so that torch need not be imported."""
    return all(hasattr(source, name) for name in ("detach", "cpu", "numpy"))


def as_array(source: Any) -> np.ndarray:
    """Bring an array or a tensor of any device to a numpy array in native byte order.

    Raises:
        ImageError: a tensor that has no numpy form (sparse, quantised …).
    """
    if is_tensor(source):
        try:
            tensor = source.detach().cpu()
            # numpy has no bfloat16; float32 holds each of its values exactly.
            array = np.asarray((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())
        except (TypeError, RuntimeError, NotImplementedError) as error:
            kind = getattr(source, "dtype", type(source).__name__)
            raise ImageError(f"this tensor ({kind}) has no plain array form; accepted: dense tensors") from error
    else:
        array = np.asarray(source)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def check_range(value_range: object) -> tuple[float, float]:
    """Check a declared range.

    Returns:
        the entry of `RANGES`.
    Raises:
        SpecError: it is not one of them.
    """
    if isinstance(value_range, (tuple, list)) and tuple(value_range) in RANGES:
        return RANGES[RANGES.index(tuple(value_range))]
    raise SpecError(f"accepted: (-1, 1), (0, 1), (0, 255); found {str(value_range)[:40]}", field="value_range")


def scale(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] to [-1, 1].

    Args:
        values: any shape, any real dtype; not changed.
        low, high: range of the values.
    Returns:
        float32 of the same shape. The two ends map to -1 and 1 exactly.
    """
    work: np.ndarray = values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32, order="C")
    np.subtract(work, (low + high) / 2, out=work)
    np.divide(work, (high - low) / 2, out=work)
    return np.clip(work, -1.0, 1.0, out=work).astype(np.float32, copy=False)


def scale_floats(values: np.ndarray, value_range: object, *, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Check floats against their declared range and map it to [-1, 1].

    Args:
        values: any shape, float dtype.
        value_range: one of `RANGES`; None is refused.
        what: how to call the values in a message, e.g. "float32 values".
    Returns:
        (float32 of the same shape, warnings).
    Raises:
        ImageError: no range declared, a value that is not finite, or values outside the range.
    """
    if value_range is None:
        raise ImageError(f"{what} do not say their range: state value_range, one of (-1, 1), (0, 1), (0, 255)")
    low, high = check_range(value_range)
    smallest, largest = float(values.min()), float(values.max())
    if not np.isfinite([smallest, largest]).all():
        index = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
        raise ImageError(f"{what} must be finite, found {values[tuple(index)]} at index {index}")
    slack = _SLACK * (high - low)
    if smallest < low - slack or largest > high + slack:
        raise ImageError(f"declared range ({low:g}, {high:g}), but the values go from {smallest:g} to {largest:g}")
    warnings: tuple[str, ...] = ()
    if high == 255.0 and 0.0 < largest <= 1.0:
        warnings = (f"declared range (0, 255), but the largest value is {largest:g}: the picture is nearly black",)
    return scale(values, low, high), warnings


def planes(
    array: np.ndarray, value_range: object, limits: Limits
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Bring a picture in an array to planes.

    Args:
        array: see the rules on top of this file.
        value_range: needed for floats; for integers only their own range is accepted.
        limits: sizes that are accepted.
    Returns:
        (colour [3, H, W] float32 in [-1, 1], alpha [H, W] float32 in [0, 1] or None, warnings).
    """
    name = array.dtype.name
    if name not in _INTEGER_RANGES and name not in ("float16", "float32", "float64"):
        raise ImageError(f"dtype {name} is not accepted; accepted: uint8, uint16, bool, float16, float32, float64")
    warnings: tuple[str, ...] = ()
    stacked = _channels_first(array)
    limits.check_size(*stacked.shape[1:])
    if name in _INTEGER_RANGES:
        own = _INTEGER_RANGES[name]
        if value_range is not None and check_range(value_range) != own:
            raise ImageError(f"{name} values span {own}, but value_range says {value_range}: leave it out")
        values = scale(stacked, *own)
    else:
        _name_bad_index(array)
        values, warnings = scale_floats(stacked, value_range, what=f"{name} values")
    alpha = (values[3] + 1) / 2 if len(values) == 4 else None
    colour = np.repeat(values, 3, axis=0) if len(values) == 1 else values[:3]
    return colour, alpha, warnings


def _name_bad_index(array: np.ndarray) -> None:
    # Looked for in the caller's layout, so that the index means something to them.
    finite = np.isfinite(array)
    if not finite.all():
        index = [int(i) for i in np.argwhere(~finite)[0]]
        raise ImageError(f"values must be finite, found {array[tuple(index)]} at index {index}")


def _channels_first(array: np.ndarray) -> np.ndarray:
    shape = list(array.shape)
    if array.ndim == 4:
        if shape[0] != 1:
            raise ShapeError(f"one picture is accepted, found a batch of {shape[0]} with shape {shape}")
        array = array[0]
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3:
        if array.shape[2] in (1, 3, 4):
            return np.moveaxis(array, 2, 0)
        if array.shape[0] in (1, 3, 4):
            return array
    raise ShapeError(
        f"shape {shape} is not a picture; accepted: [H, W], [H, W, C], [C, H, W], also with a leading 1; C = 1, 3 or 4"
    )
