"""What every loss promises, in each of its forms; a new one is tested by being in the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.images import Picture
from latent_inv.losses import LOSSES, Candidate
from latent_inv.objective import Constants, Objective
from latent_inv.observations import OBSERVATIONS
from latent_inv.perceptual import load_metric
from latent_inv.settings import Settings
from latent_inv.spaces import LatentSpace, NoiseMap, Normal, Part
from latent_inv.types import join_rows
from tests import contracts
from tests.conftest import make_picture
from tests.contracts import loaded

#: terms about the result alone; every other term is about what was seen, and must not look at hidden pixels
PRIORS = (spec.LatentPrior, spec.TotalVariation, spec.NoiseCorrelation)
SIDE, ROWS = 32, 3
SPACE = LatentSpace({"z": Part((12,), Normal()), "map": Part((12, 12), NoiseMap())})
DOUBLE = torch.float64


def forms() -> Iterator[Any]:
    """Every loss with every choice of its names."""
    for kind in LOSSES:
        named = [(item.name, choice) for item in fields(kind) for choice in item.metadata.get("choices", ())]
        for name, choice in named or [("", "")]:
            settings = kind(**({name: choice} if name else {}))
            yield pytest.param(replace(settings, weight=1.0), id=f"{kind.__name__}{choice and '-' + choice}")


FORMS = list(forms())
DATA = [form for form in FORMS if not isinstance(form.values[0], PRIORS)]


def half_seen() -> np.ndarray:
    """A weight with hidden, seen and half-seen pixels."""
    weight = np.ones((SIDE, SIDE), np.float32)
    weight[:, :13] = 0
    weight[20:, 20:] = 0.5
    return weight


@dataclass(frozen=True)
class Case:
    """A loss with its targets, one a row."""

    objective: Objective
    constants: Constants

    def __call__(self, images: Tensor, latents: Tensor, constants: Constants | None = None) -> Tensor:
        candidate, held = self.candidate(images, latents, constants), constants or self.constants
        return self.loss(candidate, held.target, self.objective.space, held.losses["x"])

    @property
    def loss(self) -> Any:
        return self.objective.losses["x"]

    def candidate(self, images: Tensor, latents: Tensor, constants: Constants | None = None) -> Candidate:
        held = constants or self.constants
        observed = self.objective.observation(images, held.observation)
        # A map in which neighbours have to do with each other, for the term that is about such maps.
        parts = {"z": latents, "map": latents[:, :, None] * latents[:, None, :]}
        return Candidate(parts, images, observed, held.target, self.objective.metric)

    def residual(self, images: Tensor, latents: Tensor) -> list[Tensor] | None:
        candidate = self.candidate(images, latents)
        blocks: list[Tensor] | None = self.loss.residual(
            candidate, self.constants.target, self.objective.space, self.constants.losses["x"]
        )
        return blocks


def case(settings: Settings, pictures: list[Picture], dtype: torch.dtype = DOUBLE) -> Case:
    generator = loaded("smooth", dtype)
    objective = Objective(
        generator=generator,
        space=SPACE if isinstance(settings, spec.NoiseCorrelation) else generator.spaces["z"],
        observation=OBSERVATIONS[spec.Identity](spec.Identity()),
        losses={"x": LOSSES[type(settings)](settings)},
        metric=load_metric("stlpips-alex", dtype=dtype),
        watch_perceptual=False,
    )
    rows = [objective.prepare(picture, {}).tree() for picture in pictures]
    return Case(objective, Constants.from_tree(join_rows(rows)))


def targets(weight: np.ndarray | None = None, first: int = 0) -> list[Picture]:
    return [make_picture(SIDE, SIDE, seed, weight) for seed in range(first, first + ROWS)]


def inputs(seed: int = 0, dtype: torch.dtype = DOUBLE) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    images = torch.tanh(torch.randn(ROWS, 3, SIDE, SIDE, generator=random, dtype=DOUBLE))
    return images.to(dtype), torch.randn(ROWS, 12, generator=random, dtype=DOUBLE).to(dtype)


@pytest.mark.parametrize("weight", [None, half_seen()], ids=["all seen", "half seen"])
@pytest.mark.parametrize("settings", FORMS)
class TestEveryLoss:
    def test_one_finite_number_a_row_that_is_not_below_zero(self, settings: Settings, weight: Any) -> None:
        value = case(settings, targets(weight))(*inputs())
        assert value.shape == (ROWS,)
        assert value.dtype == DOUBLE
        assert torch.isfinite(value).all()
        assert (value > 0).all()
        assert value.unique().numel() == ROWS, "rows that differ have one value"

    def test_rows_are_apart(self, settings: Settings, weight: Any) -> None:
        first, second = (
            case(settings, targets(weight), torch.float32),
            case(settings, targets(weight, 7), torch.float32),
        )

        def tree(of: Case, seed: int) -> dict[str, Any]:
            images, latents = inputs(seed, torch.float32)
            return {"images": images, "latents": latents, "constants": of.constants.tree()}

        def value(tree: Any) -> Tensor:
            return first(tree["images"], tree["latents"], Constants.from_tree(tree["constants"]))

        contracts.rows_are_apart(value, tree(first, 0), tree(second, 1))
        # Sums over thousands of pixels, in the order of another kernel.
        contracts.rows_do_not_depend_on_the_batch(value, tree(first, 0), 1e-5)

    def test_its_weight_is_a_factor(self, settings: Any, weight: Any) -> None:
        once, thrice, never = (
            case(replace(settings, weight=factor), targets(weight))(*inputs()) for factor in (1.0, 3.0, 0.0)
        )
        torch.testing.assert_close(thrice, 3 * once, rtol=1e-14, atol=0)
        assert (never == 0).all()

    def test_squares_of_the_residual_are_the_value(self, settings: Settings, weight: Any) -> None:
        made = case(settings, targets(weight))
        blocks = made.residual(*inputs())
        if blocks is None:
            pytest.skip("says that it is no sum of squares")
        assert all(block.dim() == 2 and block.shape[0] == ROWS for block in blocks)
        squares = torch.stack([block.square().sum(1) for block in blocks]).sum(0)
        torch.testing.assert_close(squares, made(*inputs()), rtol=1e-10, atol=0)

    def test_the_gradient_is_right(self, settings: Settings, weight: Any) -> None:
        contracts.gradient_is_right(case(settings, targets(weight)), inputs())

    @pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
    def test_flat_pictures_have_a_finite_gradient(self, settings: Settings, weight: Any, level: float) -> None:
        flat = [Picture(np.full((3, SIDE, SIDE), side, np.float32), weight) for side in (-1.0, 0.0, 1.0)]
        images = torch.full((ROWS, 3, SIDE, SIDE), level, dtype=torch.float32)
        for latents in (torch.zeros(ROWS, 12), torch.full((ROWS, 12), 50.0)):
            self.check_finite(case(settings, flat, torch.float32), images, latents)

    def test_the_target_itself_has_a_finite_gradient(self, settings: Settings, weight: Any) -> None:
        made = case(settings, targets(weight), torch.float32)
        value = self.check_finite(made, made.constants.target.image.clone(), torch.zeros(ROWS, 12))
        if not isinstance(settings, spec.TotalVariation):
            assert value.abs().max() < 1e-10, "the target at the mode of the prior is the least there is"

    @staticmethod
    def check_finite(made: Case, images: Tensor, latents: Tensor) -> Tensor:
        leaves = (images.requires_grad_(), latents.requires_grad_())
        value = made(*leaves)
        gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
        assert torch.isfinite(value).all()
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)
        return value.detach()


@pytest.mark.parametrize("level", [1.0, 0.25])
@pytest.mark.parametrize("settings", FORMS)
def test_the_same_weight_everywhere_is_no_weight(settings: Settings, level: float) -> None:
    plain = case(settings, targets())(*inputs())
    if level == 1.0 or isinstance(settings, (spec.Pixel, *PRIORS)):
        same = case(settings, targets(np.full((SIDE, SIDE), level, np.float32)))(*inputs())
        torch.testing.assert_close(same, plain, rtol=1e-10, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", DATA)
class TestEveryDataTerm:
    def test_hidden_pixels_have_no_influence_at_all(self, settings: Settings, dtype: torch.dtype) -> None:
        weight = half_seen()
        pictures = targets(weight)
        painted = []
        for picture in pictures:
            pixels = picture.pixels.copy()
            pixels[:, weight == 0] = 0.9
            painted.append(Picture(pixels, weight))
        images, latents = inputs(0, dtype)
        other = images.clone()
        other[:, :, torch.from_numpy(weight == 0)] = -0.7
        expected = case(settings, pictures, dtype)(images, latents)
        assert torch.equal(case(settings, painted, dtype)(images, latents), expected), "hidden pixels of the target"
        assert torch.equal(case(settings, pictures, dtype)(other, latents), expected), "hidden pixels of the result"

    def test_nothing_pulls_at_hidden_pixels_and_something_at_the_others(
        self, settings: Settings, dtype: torch.dtype
    ) -> None:
        weight = half_seen()
        images, latents = inputs(0, dtype)
        images.requires_grad_()
        (gradient,) = torch.autograd.grad(case(settings, targets(weight), dtype)(images, latents).sum(), images)
        hidden = torch.from_numpy(weight == 0)
        assert (gradient[:, :, hidden] == 0).all()
        assert (gradient[:, :, ~hidden] != 0).float().mean() > 0.9

    def test_a_pixel_that_is_half_seen_counts_less(self, settings: Settings, dtype: torch.dtype) -> None:
        """Where the error is largest, a smaller weight gives a smaller value."""
        pictures = [Picture(np.zeros((3, SIDE, SIDE), np.float32), None)] * ROWS
        weight = np.ones((SIDE, SIDE), np.float32)
        weight[8:24, 8:24] = 0.5
        weighed = [Picture(np.zeros((3, SIDE, SIDE), np.float32), weight)] * ROWS
        images, latents = inputs(0, dtype)
        images[:, :, weight == 1] = 0
        assert (
            case(settings, weighed, dtype)(images, latents) < case(settings, pictures, dtype)(images, latents)
        ).all()
