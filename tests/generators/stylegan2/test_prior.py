"""Priors of w and of styles: what is far out is pulled in, along the way to the mean, and nothing else moves."""

from __future__ import annotations

import pytest
import torch

from latent_inv.generators.stylegan2.prior import Spread, Styles, statistics
from latent_inv.spaces import Prior

SIZE = 6


def styles() -> Styles:
    random = torch.Generator().manual_seed(0)
    mixed = torch.randn(5000, SIZE, generator=random) @ torch.randn(SIZE, SIZE, generator=random) + 0.5
    return Styles(**statistics(torch.where(mixed < 0, 0.2 * mixed, mixed)))


def spread() -> Spread:
    return Spread(torch.linspace(-1, 1, SIZE), torch.linspace(0.5, 2, SIZE))


@pytest.mark.parametrize("prior", [styles(), spread()], ids=["styles", "spread"])
class TestEveryPrior:
    def test_what_is_within_stays_and_the_rest_comes_to_the_edge(self, prior: Prior) -> None:
        draws = torch.stack([prior.sample((SIZE,), torch.Generator().manual_seed(seed)) for seed in range(20)])
        mean = prior.mean((SIZE,))
        reach = prior.reach(draws)
        assert (reach >= SIZE**0.5 - 1e-5).all()
        assert torch.equal(prior.within(draws, reach), draws)
        far = mean + 30 * (draws - mean)
        pulled = prior.within(far, reach)
        torch.testing.assert_close(prior.reach(pulled), reach.clamp_min(SIZE**0.5), rtol=1e-3, atol=0)
        assert (prior.typicality(pulled) < prior.typicality(far) + 1e-9).all()
        assert ((pulled - mean).norm(dim=1) < (far - mean).norm(dim=1)).all()
        torch.testing.assert_close(prior.within(pulled, reach), pulled, rtol=1e-4, atol=1e-5)

    def test_draws_are_typical(self, prior: Prior) -> None:
        draws = torch.stack([prior.sample((SIZE,), torch.Generator().manual_seed(seed)) for seed in range(400)])
        share = prior.typicality(draws)
        # Uniform on [0, 1] if the whitening is right.
        assert float(share.mean()) == pytest.approx(0.5, abs=0.06)
        assert float(share.std()) == pytest.approx(12**-0.5, abs=0.04)


def test_rows_of_a_draw_are_the_same_vector() -> None:
    drawn = styles().sample((4, SIZE), torch.Generator().manual_seed(1))
    assert (drawn == drawn[:1]).all()
    assert not (drawn[0] == styles().sample((4, SIZE), torch.Generator().manual_seed(2))[0]).any()
