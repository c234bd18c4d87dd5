"""Do these arrays fit this space, and are they of this generator?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from latent_inv.errors import LatentsError, at

from .layouts import LAYERED
from .read import LatentsFile


def fit_latents(
    latents: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    field: str = "latents",
    dtype: Any = np.float32,
) -> dict[str, np.ndarray]:
    """Bring latents into the form of a space.

    Args:
        latents: part → [n, *shape] or [*shape] for one picture; one unnamed array (key "") is taken where the
            space has one part. Of `LAYERED` parts, one vector is taken for all layers, and layers that are all equal
            for one vector.
        shapes: part → shape for one picture, all parts that are wanted.
        dtype: what the arrays are cast to.
    Returns:
        part → [n, *shape], in the order of `shapes`.
    Raises:
        LatentsError: missing or unknown parts, another shape (both are named), or a value that is not finite.
    """
    with at(field):
        if set(latents) == {""} and len(shapes) == 1:
            latents = {next(iter(shapes)): latents[""]}
        missing, unknown = sorted(set(shapes) - set(latents)), sorted(set(latents) - set(shapes))
        if missing or unknown:
            said = [f"missing {', '.join(missing)}"] if missing else []
            said += [f"unknown {', '.join(repr(name)[:40] for name in unknown)}"] if unknown else []
            raise LatentsError(f"the parts are {', '.join(shapes)}; {'; '.join(said)}")
        fitted = {name: _fitted(latents[name], shape, name, dtype) for name, shape in shapes.items()}
        rows = {array.shape[0] for array in fitted.values()}
        if len(rows) != 1:
            found = ", ".join(f"{name} {array.shape[0]}" for name, array in fitted.items())
            raise LatentsError(f"all parts need the same number of rows, found {found}")
        return fitted


def _fitted(value: Any, shape: tuple[int, ...], name: str, dtype: Any) -> np.ndarray:
    array = as_array(value, name)
    if array.dtype.kind not in "fiub":
        raise LatentsError(f"must be numbers, found {array.dtype}", field=name)
    array = with_rows(array, shape, name)
    if array.shape[1:] != shape or array.shape[0] == 0:
        hint = _hint(array.shape, shape)
        expected = f"{_text(shape)} or {_text(('n', *shape))}"
        if name in LAYERED and len(shape) == 2:
            expected += f", or {_text(('n', shape[1]))} for all layers alike"
        if name in LAYERED and len(shape) == 1 and array.shape[2:] == shape:
            hint = "; its layers differ, so that they are of w+ and not of w"
        raise LatentsError(f"expected {expected}, found {_text(array.shape)}{hint}", field=name)
    bad = ~np.isfinite(array)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise LatentsError(f"must be finite, found {array[index]} at {_text(index)}", field=name)
    with np.errstate(over="ignore"):
        cast = np.array(array, dtype=dtype, order="C")  # never the caller's own memory
    if not np.isfinite(cast).all():
        raise LatentsError(f"has values too large for {np.dtype(dtype).name}", field=name)
    return cast


def with_rows(array: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The array as [n, *shape] where it can be read so, else as it is."""
    # An array of exactly the part's shape is one picture, also where its first side could be a row count.
    if array.shape == shape:
        return array[None]
    if name not in LAYERED or array.shape[1:] == shape:
        return array
    if len(shape) == 2:
        if array.shape == shape[1:]:
            array = array[None]
        if array.ndim == 2 and array.shape[1:] == shape[1:]:
            array = array[:, None]
        if array.ndim == 3 and array.shape[1:] == (1, shape[1]):
            return np.broadcast_to(array, (array.shape[0], *shape))
    elif len(shape) == 1 and array.ndim == 3 and array.shape[2:] == shape and array.shape[1] > 0:
        return array[:, 0] if (array == array[:, :1]).all() else array
    return array


def as_array(value: Any, name: str) -> np.ndarray:
    """An array of what is one, or a tensor, or numbers in lists.

    Raises:
        LatentsError: it is something else; `name` says where.
    """
    try:
        if hasattr(value, "detach"):  # a tensor; numpy has no bfloat16, and float32 holds each of its values
            value = value.detach().cpu()
            value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise LatentsError(f"must be an array of numbers, found {type(value).__name__}", field=name) from error


def _hint(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Says so where an exchange of axes would make it fit, e.g. channels last."""
    inner = found[1:] if len(found) == len(shape) + 1 else found
    if len(inner) != len(shape) or len(shape) > 4:
        return ""
    for order in permutations(range(len(shape))):
        if tuple(inner[axis] for axis in order) == shape:
            axes = (0, *(axis + 1 for axis in order)) if len(found) == len(shape) + 1 else order
            return f"; transpose{axes} would fit"
    return ""


def _text(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(str(side) for side in shape)}]"


def check_origin(file: LatentsFile, *, generator: str, weights_sha256: str) -> tuple[str, ...]:
    """Refuse latents of another generator or of other weights.

    Returns:
        warnings, where the file does not say what it is of.
    Raises:
        LatentsError: it says something else; both are named.
    """
    if file.generator is None:
        return (f"the file does not say which generator its latents are of; taken as {generator}",)
    if file.generator != generator:
        text = f'they are latents of "{file.generator:.60}", asked for was "{generator:.60}"'
        raise LatentsError(text, field="latents")
    if not file.weights_sha256:
        return (f"the file does not say which weights of {generator} its latents are of; taken as these",)
    if weights_sha256 and file.weights_sha256 != weights_sha256:
        found, here = file.weights_sha256[:16], weights_sha256[:16]
        raise LatentsError(f"they were made with other weights of {generator}: {found}…, here {here}…", field="latents")
    return ()
