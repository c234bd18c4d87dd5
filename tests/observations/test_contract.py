"""What every observation promises; a new one is tested by being in the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.observations import OBSERVATIONS
from latent_inv.settings import Settings
from tests import contracts

#: operators that are not linear, and so have no adjoint
NOT_LINEAR: tuple[type[Settings], ...] = ()
ROWS, SIDE = 3, 16


def forms() -> Iterator[Any]:
    """Every observation with every choice of its names."""
    for kind in OBSERVATIONS:
        named = [(item.name, choice) for item in fields(kind) for choice in (item.metadata or {}).get("choices", ())]
        for name, choice in named or [("", "")]:
            yield pytest.param(kind(**({name: choice} if name else {})), id=f"{kind.__name__}{choice and '-' + choice}")


def images(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tanh(torch.randn(ROWS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))).to(dtype)


def observe(settings: Settings, x: Tensor) -> Tensor:
    operator = OBSERVATIONS[type(settings)](settings)
    rows = {name: number.repeat(len(x)) for name, number in operator.rows(x.dtype, x.device).items()}
    return operator(x, rows)


@pytest.mark.parametrize("settings", list(forms()))
class TestEveryObservation:
    def test_a_row_is_observed_as_a_row(self, settings: Settings) -> None:
        seen = observe(settings, images(0))
        assert seen.shape[0] == ROWS
        assert seen.dtype == torch.float32
        assert torch.isfinite(seen).all()
        assert observe(settings, images(0)[:1]).shape[1:] == seen.shape[1:]

    def test_rows_are_apart(self, settings: Settings) -> None:
        contracts.rows_are_apart(lambda x: observe(settings, x), images(0), images(1))
        contracts.rows_do_not_depend_on_the_batch(lambda x: observe(settings, x), images(0), 1e-6)

    def test_it_changes_nothing(self, settings: Settings) -> None:
        x = images(0)
        assert torch.equal(observe(settings, x), observe(settings, x))
        assert torch.equal(x, images(0))

    def test_the_gradient_is_right(self, settings: Settings) -> None:
        if not OBSERVATIONS[type(settings)].differentiable:
            pytest.skip("says that it has none")
        contracts.gradient_is_right(lambda x: observe(settings, x), (images(0, torch.float64),))

    def test_a_linear_one_has_its_adjoint(self, settings: Settings) -> None:
        if isinstance(settings, NOT_LINEAR):
            pytest.skip("is not linear")
        x = images(0, torch.float64)
        y = torch.randn(observe(settings, x).shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        contracts.is_adjoint(lambda x: observe(settings, x), x, y)


def test_identity_is_the_identity() -> None:
    x = images(0)
    assert torch.equal(observe(spec.Identity(), x), x)
