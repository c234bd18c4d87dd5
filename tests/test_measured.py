"""Priors that are measured: against distributions whose mean, deviation and distances are known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from latent_inv.errors import InternalError
from latent_inv.measured import LayerSpace, Measured, Statistics, measure
from latent_inv.seeding import stream
from latent_inv.spaces import Part
from tests import contracts

SHAPE = (3, 4, 4)
MEAN = torch.arange(3.0).reshape(3, 1, 1) - 1 + 0.1 * torch.arange(16.0).reshape(4, 4)
SCALE = (1 + torch.arange(3.0)).reshape(3, 1, 1).expand(SHAPE)


def draws(first: int, count: int) -> Iterator[dict[str, Tensor]]:
    noise = stream(first, "draws")
    for _ in range(count // 50):
        yield {"x": MEAN + SCALE * torch.randn(50, *SHAPE, generator=noise)}


def measured(by: str = "coordinate", count: int = 2000) -> Measured:
    found = measure(draws(1, count), draws(2, count), {"x": by})["x"]
    return Measured(by).bound(lambda: found)


def test_mean_and_deviation_are_those_of_the_draws() -> None:
    statistics = measured().statistics
    assert statistics.mean.shape == statistics.scale.shape == SHAPE
    # Four standard errors of 2000 draws.
    assert ((statistics.mean - MEAN).abs() < 4 * SCALE / math.sqrt(2000)).all()
    assert ((statistics.scale / SCALE - 1).abs() < 4 / math.sqrt(2 * 2000)).all()
    assert statistics.mean.dtype == torch.float32


def test_by_channel_all_places_share_one_mean() -> None:
    statistics = measured("channel").statistics
    assert statistics.mean.shape == statistics.scale.shape == (3, 1, 1)
    torch.testing.assert_close(statistics.mean, MEAN.mean(dim=(1, 2), keepdim=True), atol=0.05, rtol=0)
    # The mean differs from place to place, which is spread, too.
    spread = MEAN[0].var(correction=0)
    torch.testing.assert_close(statistics.scale, (SCALE[:, :1, :1].square() + spread).sqrt(), atol=0, rtol=0.03)
    prior = measured("channel", 100)
    assert prior.mean((3, 9, 7)).shape == (3, 9, 7), "of any size"
    assert prior.sample((3, 9, 7), stream(0, "test")).shape == (3, 9, 7)


def test_a_vector_has_no_places() -> None:
    noise = stream(1, "vector")
    both = [[{"x": 2 + 3 * torch.randn(500, 5, generator=noise)}] for _ in range(2)]
    found = measure(both[0], both[1], {"x": "channel"})["x"]
    torch.testing.assert_close(found.mean, torch.full((5,), 2.0), atol=0.6, rtol=0)
    torch.testing.assert_close(found.scale, torch.full((5,), 3.0), atol=0.5, rtol=0)


def test_units_that_are_always_off_are_not_infinitely_far_away() -> None:
    dead = torch.ones(3, 1, 1)
    dead[1] = 0
    some = [{"x": dead * next(draws(3, 50))["x"]}]
    found = measure(some, some, {"x": "coordinate"})["x"]
    assert (found.scale > 0).all()
    least = (0.01 * found.scale.square().mean()).sqrt()
    assert float(found.scale[1].max()) == pytest.approx(float(least), rel=0.02)
    nothing = [{"x": torch.zeros(4, *SHAPE)}]
    assert (measure(nothing, nothing, {"x": "coordinate"})["x"].scale == 1).all()


def test_distances_are_of_draws_that_were_not_measured() -> None:
    few = measured(count=50).statistics
    # In 48 dimensions draws lie at 1 ± 0.1; means of 50 draws are off by another hundredth.
    assert few.distances.shape == (50,)
    assert (few.distances[1:] >= few.distances[:-1]).all()
    assert float(few.distances.mean()) == pytest.approx(1, abs=0.06)
    one = next(draws(1, 50))
    itself = measure([one], [one], {"x": "coordinate"})["x"].distances
    assert itself.mean() < few.distances.mean(), "those of its own draws are nearer than others"


def test_typicality_is_the_share_of_draws_that_lie_nearer() -> None:
    prior = measured()
    noise = stream(5, "test")
    x = MEAN + SCALE * torch.randn(400, *SHAPE, generator=noise)
    found = prior.typicality(x)
    # ‖u‖² is χ² with 48 degrees of freedom here, as coordinates are independent.
    units = ((x - MEAN) / SCALE).flatten(1).square().sum(dim=1).double()
    exact = torch.special.gammainc(torch.tensor(24.0).double(), units / 2)
    torch.testing.assert_close(found, exact, atol=0.08, rtol=0)
    assert prior.typicality(prior.mean(SHAPE)[None]) == 0
    assert prior.typicality(100 * x[:1]) == 1


def test_energy_and_its_residual_are_those_of_a_normal_distribution() -> None:
    prior = Measured().bound(lambda: Statistics(MEAN, SCALE, torch.ones(1)))
    x = (MEAN + SCALE * torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1)).double()
    torch.testing.assert_close(prior.energy(x), torch.tensor([0.5, 2.0]).double(), rtol=1e-6, atol=0)
    residual = prior.energy_residual(x)
    assert residual.shape == (2, 48)
    torch.testing.assert_close(residual.square().sum(dim=1), prior.energy(x))
    torch.testing.assert_close(prior.distance(x), torch.tensor([1.0, 2.0]).double(), rtol=1e-6, atol=0)
    contracts.gradient_is_right(prior.energy, (x,))


def test_reach_and_within() -> None:
    prior = Measured().bound(lambda: Statistics(MEAN, SCALE, torch.ones(1)))
    x = MEAN + SCALE * torch.tensor([0.5, 3.0]).reshape(2, 1, 1, 1)
    reach = prior.reach(x)
    torch.testing.assert_close(reach, torch.tensor([1.0, 3.0]))
    kept = prior.within(x, torch.ones(2))
    assert torch.equal(kept[0], x[0]), "what is inside stays as it is, to the bit"
    torch.testing.assert_close(kept[1], (MEAN + SCALE))


def test_near_an_anchor_is_measured_in_deviations() -> None:
    prior = Measured().bound(lambda: Statistics(MEAN, SCALE, torch.ones(1)))
    anchor = torch.randn(2, *SHAPE, generator=stream(0, "test"))
    x = anchor + SCALE * torch.tensor([0.5, -4.0]).reshape(2, 1, 1, 1)
    kept = prior.near(x, anchor, torch.tensor([2.0, 2.0]))
    assert torch.equal(kept[0], x[0])
    torch.testing.assert_close(kept[1], anchor[1] - 2 * SCALE)


def test_without_weights_it_says_so() -> None:
    space = LayerSpace({"x": Part(SHAPE, Measured())})
    assert space.describe()["x"]["prior"] == "measured"
    assert space.shapes((8, 8)) == {"x": SHAPE}
    with pytest.raises(InternalError, match="weights are loaded"):
        space.sample((8, 8), stream(0, "test"))
    with pytest.raises(InternalError, match="weights are loaded"):
        space.mean((8, 8))


def test_it_is_measured_once() -> None:
    asked = []
    prior = Measured().bound(lambda: asked.append(1) or Statistics(MEAN, SCALE, torch.ones(1)))
    assert not asked, "not before it is needed"
    for _ in range(3):
        prior.energy(torch.zeros(1, *SHAPE))
    assert len(asked) == 1
