"""Calls of a program that takes only some numbers of rows, for any number of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latent_inv.errors import ShapeError


def in_calls(call: Callable[..., Tensor], inputs: Sequence[Tensor], least: int, most: int | None) -> Tensor:
    """Rows through calls of `least` to `most` rows, those that are short filled with copies of a row.

    Args:
        call: tensors of [n, …] -> [n, …], row by row.
        inputs: each [R, …].
    Returns:
        [R, …].
    Raises:
        ShapeError: there is no row.
    """
    rows = inputs[0].shape[0]
    if rows == 0:
        raise ShapeError("at least one row is needed, found none", field="latents")
    if least <= rows and (most is None or (rows <= most and least < most)):
        return call(*inputs)
    width = max(rows, least) if most is None else most
    # Kernels round alike at every place of a call if its width is a power of two (and not at the third place of three,
    # say). A row's picture must not depend on its place, so in calls of other widths it is alone with its copies.
    taken = 1 << (width.bit_length() - 1)
    taken = taken if taken >= least else 1
    pictures = [
        call(*(_filled(tensor[first : first + taken], max(taken, least)) for tensor in inputs))[: rows - first][:taken]
        for first in range(0, rows, taken)
    ]
    return torch.cat(pictures) if len(pictures) > 1 else pictures[0]


def _filled(rows: Tensor, width: int) -> Tensor:
    missing = width - rows.shape[0]
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows
