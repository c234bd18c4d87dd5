"""Calls of a program that takes only some numbers of rows, for any number of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latent_inv.errors import ShapeError


def in_calls(call: Callable[..., Tensor], inputs: Sequence[Tensor], least: int, most: int | None) -> Tensor:
    """Rows through calls of `least` to `most` rows.

    A row's picture must not depend on where it stands, and most kernels round the rows of a call alike only at some
    widths (four rows and eight, not two and three). So where the rows are too few or too many for one call, or it has
    a fixed number of them, each row has a call of its own, filled with its copies.

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
    pictures = [
        call(*(tensor[row : row + 1].expand(least, *tensor.shape[1:]) for tensor in inputs))[:1] for row in range(rows)
    ]
    return torch.cat(pictures) if rows > 1 else pictures[0]
