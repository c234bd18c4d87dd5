"""Latents of several parts as one vector a row, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from latent_inv.types import Latents


def flatten(latents: Latents) -> Tensor:
    """part -> [R, …] as [R, d], the parts joined in their order."""
    return torch.cat([tensor.flatten(1) for tensor in latents.values()], dim=1)


def unflatten(flat: Tensor, like: Latents) -> dict[str, Tensor]:
    """The inverse of `flatten`: [R, d] with the shapes, dtype and device of `like`."""
    sizes = [tensor[0].numel() for tensor in like.values()]
    pieces = flat.split(sizes, dim=1)
    return {name: piece.reshape(x.shape).to(x) for (name, x), piece in zip(like.items(), pieces, strict=True)}


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row: [R, d] -> [R]. A product and a sum apart, which round alike in every place."""
    return (a * b).sum(dim=1)
