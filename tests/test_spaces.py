"""Priors, constraints and spaces: each entry of the lists gets every law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from latent_inv import constraints, spaces
from latent_inv.constraints import Box, Constraint, Free, Simplex, Sphere, Standardised
from latent_inv.errors import LatentsError, ShapeError
from latent_inv.seeding import stream
from latent_inv.spaces import Categorical, LatentSpace, NoiseMap, Normal, Part, Prior

SHAPE = (6,)
PRIORS: list[Prior] = [Normal(), NoiseMap(), spaces.Uniform(-1, 1), spaces.Uniform(0, 3), Categorical()]
CONSTRAINTS: list[Constraint] = [Free(), Box(-1, 1), Box(0, 0.5), Sphere(), Standardised(), Simplex()]
#: rows that a wild step can leave behind; the scale of float32's squares, cancellation and exact ties are all in it
WILD = torch.tensor(
    [
        [0.3, -0.2, 1.7, -4.0, 0.0, 0.1],
        [0.0] * 6,
        [1e8, 1e8, 1.0, 0.0, -1e8, 3.0],
        [1e30] * 6,
        [1e-30, -1e-30, 0, 0, 0, 0],
        [-7.0] * 6,
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
        [3e38, -3e38, 3e38, 0, 0, 0],
    ]
)


def named(values: list[Any]) -> list[Any]:
    return [pytest.param(value, id=f"{type(value).__name__}{index}") for index, value in enumerate(values)]


def belongs(constraint: Constraint, latents: Tensor) -> bool:
    """Is every row in the set? Written apart from the projections."""
    rows = latents.double().flatten(1)
    if isinstance(constraint, Box):
        return bool(((rows >= constraint.low) & (rows <= constraint.high)).all())
    if isinstance(constraint, Sphere):
        return bool(((rows**2).sum(1) / rows.shape[1] - 1).abs().max() < 1e-5)  # float32 rounds at 1e-7 a coordinate
    if isinstance(constraint, Standardised):
        return bool(rows.mean(1).abs().max() < 1e-6 and ((rows**2).mean(1) - 1).abs().max() < 1e-5)
    if isinstance(constraint, Simplex):
        return bool((rows >= 0).all() and (rows.sum(1) - 1).abs().max() < 1e-5)
    return True


def test_every_prior_and_constraint_is_here() -> None:
    listed = {type(value) for value in (*PRIORS, *CONSTRAINTS)}
    classes = {
        kind
        for module in (spaces, constraints)
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
    }
    assert listed == {kind for kind in classes if issubclass(kind, (Prior, Constraint))} - {Prior, Constraint}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constraint", named(CONSTRAINTS))
class TestEveryConstraint:
    def test_the_result_is_in_the_set(self, constraint: Constraint, dtype: torch.dtype) -> None:
        moved = constraint(WILD.to(dtype))
        assert moved.shape == WILD.shape
        assert moved.dtype == dtype
        assert torch.isfinite(moved).all()
        assert belongs(constraint, moved)

    def test_twice_is_once(self, constraint: Constraint, dtype: torch.dtype) -> None:
        once = constraint(WILD.to(dtype))
        torch.testing.assert_close(constraint(once), once, rtol=1e-6, atol=1e-6)  # a rounding or two of float32

    def test_a_row_is_on_its_own(self, constraint: Constraint, dtype: torch.dtype) -> None:
        together = constraint(WILD.to(dtype))
        for row in range(len(WILD)):
            assert torch.equal(constraint(WILD[row : row + 1].to(dtype))[0], together[row])

    def test_a_row_that_is_no_number_does_not_spread(self, constraint: Constraint, dtype: torch.dtype) -> None:
        wild = WILD.to(dtype)
        bad = wild.clone()
        bad[2, 3] = float("nan")
        bad[4, 1] = float("inf")
        moved, expected = constraint(bad), constraint(wild)
        assert all(torch.equal(moved[row], expected[row]) for row in (0, 1, 3, 5, 6, 7))
        assert not torch.isfinite(moved[2]).all()

    def test_it_is_the_nearest_point(self, constraint: Constraint, dtype: torch.dtype) -> None:
        """No point of the set is nearer than the projection; 200 tries a row, all drawn from the set."""
        start = WILD[[0, 5, 6]].to(dtype)
        # Distances in float64: they are up to 17, where float32 has no digit for the bound.
        reached = (start.double() - constraint(start).double()).norm(dim=1)
        for row in range(3):
            others = constraint(start[row] + torch.randn(200, 6, generator=stream(row, "t"), dtype=dtype))
            assert ((others.double() - start[row].double()).norm(dim=1) >= reached[row] - 1e-6).all()


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3, 4)])
def test_parts_of_any_shape_are_put_back_as_a_whole(shape: tuple[int, ...]) -> None:
    latents = torch.randn(3, *shape, generator=stream(1, "shape"))
    for constraint in (Free(), Box(), Sphere()):
        assert constraint(latents).shape == latents.shape
        assert belongs(constraint, constraint(latents))


@pytest.mark.parametrize("prior", named(PRIORS))
class TestEveryPrior:
    def test_draws_are_reproducible_and_apart(self, prior: Prior) -> None:
        first, again = (prior.sample((50,), stream(3, "x")) for _ in range(2))
        assert first.shape == (50,)
        assert first.dtype == torch.float32
        assert torch.equal(first, again)
        assert not all(torch.equal(first, prior.sample((50,), stream(seed, "x"))) for seed in range(4, 8))

    def test_the_mean_is_that_of_the_draws(self, prior: Prior) -> None:
        draws = torch.stack([prior.sample(SHAPE, stream(n, "mean")) for n in range(4000)])
        # 5 standard errors of the mean of 4000 draws, whose deviation is `scale` or less than 1.
        bound = 5 * max(prior.scale, 1) / 4000**0.5
        assert (draws.mean(0) - prior.mean(SHAPE)).abs().max() < bound
        if not isinstance(prior, Categorical):
            assert draws.std(0).mean() == pytest.approx(prior.scale, rel=0.03)

    def test_the_energy_is_zero_at_the_mode_and_never_below(self, prior: Prior) -> None:
        draws = torch.stack([prior.sample(SHAPE, stream(n, "energy")) for n in range(50)])
        energy = prior.energy(draws)
        assert energy.shape == (50,)
        assert (energy >= 0).all()
        mode = draws[:1] if isinstance(prior, Categorical) else prior.mean(SHAPE)[None]
        assert prior.energy(mode).item() == pytest.approx(0, abs=1e-6)

    def test_the_energy_has_a_gradient_row_by_row(self, prior: Prior) -> None:
        draws = torch.stack([prior.sample(SHAPE, stream(n, "energy")) for n in range(3)]).double().requires_grad_()
        assert torch.autograd.gradcheck(prior.energy, (draws,))
        (gradient,) = torch.autograd.grad(prior.energy(draws)[1], draws)
        assert (gradient[[0, 2]] == 0).all()

    def test_squares_of_the_residual_are_the_energy(self, prior: Prior) -> None:
        draws = torch.stack([prior.sample(SHAPE, stream(n, "r")) for n in range(3)]).double()
        residual = prior.energy_residual(draws)
        if residual is not None:
            torch.testing.assert_close(residual.square().sum(1), prior.energy(draws), rtol=1e-12, atol=0)

    def test_typicality_is_a_share(self, prior: Prior) -> None:
        draws = torch.stack([prior.sample((40,), stream(n, "typical")) for n in range(400)])
        share = prior.typicality(draws)
        assert share.shape == (400,)
        assert ((share >= 0) & (share <= 1)).all()
        if isinstance(prior, NoiseMap):
            assert share.std() < 1e-3, "all have the same length, as the set that they are in says"
        elif not isinstance(prior, Categorical):
            # Uniform if the distribution function is right; the deviation of a mean of 400 is 0.0144.
            assert share.mean() == pytest.approx(0.5, abs=0.06)
            assert share.std() == pytest.approx(12**-0.5, abs=0.04)
            assert prior.typicality(prior.mean((40,))[None]).item() < 1e-6


def test_typicality_of_a_normal_is_the_distribution_function_of_chi_square() -> None:
    """The median of χ² with 100 degrees of freedom is 99.334 (tables)."""
    z = torch.full((1, 100), (99.334 / 100) ** 0.5)
    assert Normal().typicality(z).item() == pytest.approx(0.5, abs=1e-4)


def test_energies_by_hand() -> None:
    assert Normal().energy(torch.tensor([[3.0, 4.0]])).item() == pytest.approx(25 / 4)
    assert Categorical().energy(torch.tensor([[0.25] * 4])).item() == pytest.approx(1)
    assert Categorical().energy(torch.tensor([[0.0, 1, 0, 0]])).item() == 0


def test_simplex_by_hand() -> None:
    """The projection of (2, 0.5, 0) is (1, 0, 0), of (0.9, 0.9, 0) it is (0.5, 0.5, 0)."""
    found = Simplex()(torch.tensor([[2, 0.5, 0], [0.9, 0.9, 0]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]]))


# ---- spaces --------------------------------------------------------------------------------------

SPACE = LatentSpace(
    {
        "code": Part((4, -8, -8), Normal(), Box(-1, 1)),
        "class": Part((5,), Categorical(), Simplex(), role="fixed"),
    }
)
SIZE = (16, 24)


def test_shapes_follow_the_picture() -> None:
    assert SPACE.shapes(SIZE) == {"code": (4, 2, 3), "class": (5,)}
    assert {name: tuple(t.shape) for name, t in SPACE.mean(SIZE).items()} == {"code": (1, 4, 2, 3), "class": (1, 5)}
    assert SPACE.searched == ("code",)


def test_a_space_puts_every_part_back() -> None:
    moved = SPACE.retract({"code": torch.full((2, 4, 2, 3), 9.0), "class": torch.ones(2, 5)})
    assert (moved["code"] == 1).all()
    torch.testing.assert_close(moved["class"], torch.full((2, 5), 0.2))


@pytest.mark.parametrize(
    ("latents", "error", "field"),
    [
        ({"code": torch.zeros(2, 4, 2, 3)}, LatentsError, ""),
        ({}, LatentsError, ""),
        ({"code": torch.zeros(2, 4, 2, 3), "class": torch.zeros(2, 5), "z": torch.zeros(2, 1)}, LatentsError, ""),
        ({"code": torch.zeros(2, 4, 3, 2), "class": torch.zeros(2, 5)}, ShapeError, "code"),
        ({"code": torch.zeros(2, 4, 2, 3), "class": torch.zeros(5)}, ShapeError, "class"),
        ({"code": torch.zeros(()), "class": torch.zeros(2, 5)}, ShapeError, "code"),
        ({"code": torch.zeros(2, 4, 2, 3), "class": torch.zeros(3, 5)}, ShapeError, "latents"),
    ],
)
def test_latents_of_another_space_are_refused(latents: Any, error: type[Exception], field: str) -> None:
    with pytest.raises(error) as caught:
        SPACE.check(latents, SIZE)
    assert caught.value.field == field  # type: ignore[attr-defined]


def test_a_description_is_plain() -> None:
    assert SPACE.describe()["code"] == {
        "shape": [4, -8, -8],
        "prior": "normal",
        "constraint": "box [-1, 1]",
        "role": "searched",
    }


def test_beside_is_so_many_deviations_off_and_inside() -> None:
    space = LatentSpace({"z": Part((4000,), Normal()), "box": Part((4000,), spaces.Uniform(0, 3), Box(0, 3))})
    draw, mean = space.sample((8, 8), stream(1, "draw")), space.mean((8, 8))
    moved = space.beside(mean, draw, 0.25)
    assert moved["z"].std() == pytest.approx(0.25, rel=0.05)
    assert moved["box"].std() == pytest.approx(0.25 * 3 / 12**0.5, rel=0.05)
    torch.testing.assert_close(space.beside(mean, draw, 1.0), draw)
    far = space.beside(mean, draw, 1000.0)
    assert (far["box"] >= 0).all()
    assert (far["box"] <= 3).all()
    assert ((far["box"] == 0) | (far["box"] == 3)).float().mean() > 0.9
    only = space.beside({"z": mean["z"].double()}, draw, 0.5)
    assert only.keys() == {"z"}
    assert only["z"].dtype == torch.float64
