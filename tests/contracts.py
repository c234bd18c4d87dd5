"""Oracles that every entry of a table is held against. Each can fail: `tests/test_contracts.py` breaks it on purpose.

The laws are stated once here; the tests of a table run them over all its entries, so a new class is
tested by being in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from latent_inv.generators import GENERATORS
from latent_inv.generators.base import Generator
from latent_inv.types import map_tree, take_row
from tests.toy import TOYS

#: toys that are broken on purpose
BROKEN = ("broken", "raises")

KINDS: dict[str, type[Generator]] = {
    **GENERATORS,
    **{name: kind for name, kind in TOYS.items() if name not in BROKEN},
}

_loaded: dict[tuple[str, torch.dtype], Generator] = {}


def loaded(name: str, dtype: torch.dtype = torch.float32) -> Generator:
    """A generator of `KINDS`, loaded once for all tests."""
    if (name, dtype) not in _loaded:
        _loaded[name, dtype] = KINDS[name].load(torch.device("cpu"), dtype)
    return _loaded[name, dtype]


def size_of(kind: type[Generator]) -> tuple[int, int]:
    """A picture size that is not square where it is free."""
    return kind.size or (2 * kind.stride, 3 * kind.stride)


def rows_are_apart(function: Callable[[Any], Tensor], tree: Any, other: Any) -> None:
    """At one width, row 0 of the output is bit-equal whatever stands in the other rows.

    Args:
        function: tree of [R, …] -> [R, …].
        tree, other: same structure, R ≥ 2 rows that all differ.
    """
    first = function(tree)
    mixed = map_pair(lambda a, b: torch.cat([a[:1], b[1:]]), tree, other)
    second = function(mixed)
    assert torch.equal(first[0], second[0]), "row 0 changed with its neighbours"
    assert not torch.equal(first[1:], second[1:]), "the other rows did not change: the inputs have no influence"


def rows_do_not_depend_on_the_batch(function: Callable[[Any], Tensor], tree: Any, tolerance: float) -> None:
    """Each row alone gives what it gives in the batch, within the rounding of other kernels."""
    together = function(tree)
    for row in range(together.shape[0]):
        alone = function(take_row(tree, row))
        torch.testing.assert_close(alone[0], together[row], atol=tolerance, rtol=0)


def gradient_is_right(function: Callable[..., Any], inputs: tuple[Tensor, ...], *, twice: bool = False) -> None:
    """Reverse mode against finite differences in float64; float32 differences are 5 % off at kinks.

    Args:
        twice: also the gradient of the gradient.
    """
    assert all(tensor.dtype == torch.float64 for tensor in inputs), "float64 only"
    leaves = tuple(tensor.detach().clone().requires_grad_() for tensor in inputs)
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    if twice:
        assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


def tangent_is_right(function: Callable[[Tensor], Tensor], point: Tensor, direction: Tensor) -> None:
    """Forward mode against central differences in float64: their error is about 1e-8 at this step.

    A larger one would be more exact, and would pass the kinks of some units of a large network.
    """
    assert point.dtype == torch.float64, "float64 only"
    step = 1e-8
    _, tangent = torch.func.jvp(function, (point,), (direction,))
    with torch.no_grad():
        differences = (function(point + step * direction) - function(point - step * direction)) / (2 * step)
    assert tangent.abs().max() > 0, "no tangent at all"
    torch.testing.assert_close(tangent, differences, rtol=1e-5, atol=1e-7)


def is_adjoint(operator: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> None:
    """<Ax, y> = <x, Aᵀy> with Aᵀ from autograd, and A is linear.

    A map that is not linear still has a transposed Jacobian, so linearity is part of the test.
    """
    leaf = x.detach().clone().requires_grad_()
    image = operator(leaf)
    (back,) = torch.autograd.grad(image, leaf, y)
    left, right = (image.detach() * y).sum(), (x * back).sum()
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(operator(2 * x + x.flip(0)), 2 * operator(x) + operator(x.flip(0)))


def weights_are_frozen(module: torch.nn.Module, work: Callable[[], Any]) -> None:
    """`work` changes no weight and no statistic, and leaves no gradient behind; the module is in evaluation mode."""
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    work()
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items()), "state was changed"
    assert not any(part.training for part in module.modules()), "training mode"
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters()), "weights have gradients"


def leading_rows(tree: Any, rows: int) -> None:
    """Every tensor of a state has `rows` as its first dimension."""
    seen: list[tuple[int, ...]] = []
    map_tree(lambda tensor: seen.append(tuple(tensor.shape)) or tensor, tree)
    assert seen, "an empty state"
    assert all(shape[:1] == (rows,) for shape in seen), f"shapes {seen}, expected {rows} rows"


def map_pair(function: Callable[[Tensor, Tensor], Tensor], first: Any, second: Any) -> Any:
    """Two trees of one structure to one."""
    if first is None:
        return None
    if isinstance(first, Tensor):
        return function(first, second)
    if isinstance(first, Mapping):
        return {name: map_pair(function, first[name], second[name]) for name in first}
    return [map_pair(function, a, b) for a, b in zip(first, second, strict=True)]
