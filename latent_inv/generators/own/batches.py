"""Calls of a program that takes only some numbers of rows, for any number of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latent_inv.errors import ShapeError


def in_calls(call: Callable[..., Tensor], inputs: Sequence[Tensor], least: int, most: int | None) -> Tensor:
    """Rows through calls of `least` to `most` rows, the last one filled with copies of its first row.

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
    if least <= rows and (most is None or rows <= most):
        return call(*inputs)
    width = max(rows, least) if most is None else most
    pictures: list[Tensor] = []
    for first in range(0, rows, width):
        pieces = [tensor[first : first + width] for tensor in inputs]
        count = pieces[0].shape[0]
        if count < least:
            pieces = [torch.cat([one, one[:1].expand(least - count, *one.shape[1:])]) for one in pieces]
        pictures.append(call(*pieces)[:count])
    return torch.cat(pictures) if len(pictures) > 1 else pictures[0]
