"""Shared names for tensors by row, and the three things that are done with trees of them.

A *tree* is a tensor, None, or a dict or list of trees. Every tensor in it has rows as its first
dimension, so a job's row can be cut out of a lane, kept, and put into another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from latent_inv.settings import Settings, numbers

#: part name -> [R, …]; R counts rows
Latents = Mapping[str, Tensor]
Tree = Any


def map_tree(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """Apply `function` to every tensor of `tree`."""
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {name: map_tree(function, item) for name, item in tree.items()}
    return [map_tree(function, item) for item in tree]


def take_row(tree: Tree, row: int) -> Tree:
    """Row `row` of every tensor, as a copy with one row: [R, …] -> [1, …]."""
    return map_tree(lambda tensor: tensor[row : row + 1].clone(), tree)


def join_rows(trees: Sequence[Tree]) -> Tree:
    """Put trees of the same structure under each other: n × [1, …] -> [n, …]."""
    first = trees[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(trees))
    if isinstance(first, Mapping):
        return {name: join_rows([tree[name] for tree in trees]) for name in first}
    return [join_rows(list(items)) for items in zip(*trees, strict=True)]


def repeat_row(tree: Tree, count: int) -> Tree:
    """`count` views of a tree with one row: [1, …] -> [count, …]; to be read only."""
    return map_tree(lambda tensor: tensor.expand(count, *tensor.shape[1:]), tree)


def by_row(values: Tensor, like: Tensor) -> Tensor:
    """Shape [R] as [R, 1, …] so that it broadcasts against `like`, [R, …]."""
    return values.reshape(-1, *([1] * (like.dim() - 1)))


def pulled(latents: Tensor, anchor: Tensor, size: Tensor, radius: Tensor) -> Tensor:
    """Rows whose distance `size` to the anchor is above `radius`, both [R], straight towards it as far as needed."""
    back = anchor + (latents - anchor) * by_row(radius / size, latents)
    return torch.where(by_row(size > radius, latents), back, latents)


def joined(latents: Latents) -> Tensor:
    """All parts of each row as one vector, in their order: part -> [R, …] to [R, d]."""
    return torch.cat([tensor.flatten(1) for tensor in latents.values()], dim=1)


def parted(vectors: Tensor, like: Latents) -> dict[str, Tensor]:
    """The inverse of `joined`: [R, d] to part -> [R, …], with the shapes, dtype and device of the parts of `like`."""
    pieces = vectors.split([tensor[0].numel() for tensor in like.values()], dim=1)
    return {
        name: piece.reshape(-1, *tensor.shape[1:]).to(tensor)
        for (name, tensor), piece in zip(like.items(), pieces, strict=True)
    }


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row: [R, d] -> [R]. A product and a sum apart, which round alike in every place."""
    return (a * b).sum(dim=1)


def number_rows(settings: Settings, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """The numbers of a component's settings as one row, name -> [1]."""
    return {name: torch.tensor([value], dtype=dtype, device=device) for name, value in numbers(settings).items()}
