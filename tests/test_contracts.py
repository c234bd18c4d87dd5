"""Each oracle of `contracts` is broken once on purpose."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import contracts

X, Y = torch.arange(12.0).reshape(4, 3), torch.arange(12.0).reshape(4, 3) * 7 + 1
D = X.double() / 7


def test_rows_are_apart() -> None:
    contracts.rows_are_apart(lambda x: x * 2, X, Y)
    with pytest.raises(AssertionError, match="neighbours"):
        contracts.rows_are_apart(lambda x: x - x.mean(0), X, Y)
    with pytest.raises(AssertionError, match="no influence"):
        contracts.rows_are_apart(lambda x: x * 0, X, Y)


def test_rows_do_not_depend_on_the_batch() -> None:
    contracts.rows_do_not_depend_on_the_batch(lambda x: x * 2, X, 0)
    with pytest.raises(AssertionError):
        contracts.rows_do_not_depend_on_the_batch(lambda x: x / len(x), X, 1e-5)
    with pytest.raises(AssertionError):
        contracts.rows_do_not_depend_on_the_batch(lambda x: x - x.mean(0), X, 1e-5)


class Wrong(torch.autograd.Function):
    """x², with 1.01 times its derivative."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return 2.02 * ctx.saved_tensors[0] * grads[0]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return 2.02 * ctx.saved_tensors[0] * tangents[0]


def test_gradient_is_right() -> None:
    contracts.gradient_is_right(lambda x: x * x, (D,), twice=True)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        contracts.gradient_is_right(Wrong.apply, (D,))
    with pytest.raises(AssertionError, match="float64"):
        contracts.gradient_is_right(lambda x: x * x, (X,))


def test_tangent_is_right() -> None:
    contracts.tangent_is_right(lambda x: x * x, D, torch.ones_like(D))
    with pytest.raises(AssertionError):
        contracts.tangent_is_right(Wrong.apply, D, torch.ones_like(D))
    with pytest.raises(AssertionError, match="no tangent"):
        contracts.tangent_is_right(lambda x: x * 0, D, torch.ones_like(D))


def test_is_adjoint() -> None:
    contracts.is_adjoint(lambda x: x.cumsum(1), D, D.flip(1))
    with pytest.raises(AssertionError):
        contracts.is_adjoint(lambda x: x + 1, D, D.flip(1))
    with pytest.raises(AssertionError):
        contracts.is_adjoint(lambda x: x.relu() - 0.5 * (-x).relu(), D - 1, D.flip(1))


def test_weights_are_frozen() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3)).eval().requires_grad_(False)
    contracts.weights_are_frozen(net, lambda: net(X))
    with pytest.raises(AssertionError, match="state"):
        contracts.weights_are_frozen(net, lambda: net.train()(X))
    with pytest.raises(AssertionError, match="training"):
        contracts.weights_are_frozen(net, lambda: None)
    net.eval().requires_grad_(True)
    with pytest.raises(AssertionError, match="gradients"):
        contracts.weights_are_frozen(net, lambda: None)


def test_leading_rows() -> None:
    contracts.leading_rows({"a": [X, None], "b": torch.zeros(4)}, 4)
    with pytest.raises(AssertionError, match="expected 4 rows"):
        contracts.leading_rows({"a": X, "t": torch.tensor(3)}, 4)
    with pytest.raises(AssertionError, match="empty"):
        contracts.leading_rows({}, 4)
