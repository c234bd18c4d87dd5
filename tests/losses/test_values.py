"""Right values, by hand on tiny pictures; and the wrapper that keeps losses per row."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.constraints import Simplex
from latent_inv.errors import ShapeError, UnsupportedError
from latent_inv.losses import LOSSES, Candidate, Loss, Target
from latent_inv.settings import Settings
from latent_inv.spaces import Categorical, LatentSpace, NoiseMap, Normal, Part, Uniform

SPACE = LatentSpace(
    {
        "z": Part((2,), Normal()),
        "noise": Part((3,), Normal(), role="fixed"),
    }
)


def value(
    settings: Settings,
    images: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    latents: Any = None,
    space: LatentSpace = SPACE,
    loss: Loss[Any] | None = None,
) -> Tensor:
    seen = Target(target, weight, None, None)
    loss = loss or LOSSES[type(settings)](settings)
    metric: Any = None
    candidate = Candidate(latents or {}, images, images, seen, metric)
    rows = {name: number.repeat(len(images)) for name, number in loss.rows(images.dtype, images.device).items()}
    return loss(candidate, seen, space, rows)


def picture(*columns: float) -> Tensor:
    """One row of pixels, the same in red, green and blue: [1, 3, 1, n]."""
    return torch.tensor(columns, dtype=torch.float64).reshape(1, 1, 1, -1).repeat(1, 3, 1, 1)


def test_pixels() -> None:
    result, target = picture(0.5, -0.25, 1.0, 0.0), picture(0.0, 0.0, 0.0, 0.0)
    assert value(spec.Pixel(kind="l2"), result, target).item() == pytest.approx((0.25 + 0.0625 + 1) / 4)
    assert value(spec.Pixel(kind="l1"), result, target).item() == pytest.approx(1.75 / 4)
    # Huber with δ = 0.3: 0.3 · (0.5 − 0.15), 0.0625 / 2, 0.3 · (1 − 0.15), 0.
    expected = (0.3 * 0.35 + 0.03125 + 0.3 * 0.85) / 4
    assert value(spec.Pixel(kind="huber", delta=0.3), result, target).item() == pytest.approx(expected)
    assert value(spec.Pixel(kind="l2", weight=2), result, target).item() == pytest.approx(1.3125 / 2)


def test_huber_has_no_step_at_delta() -> None:
    below, above = (
        value(spec.Pixel(kind="huber", delta=0.3), picture(0.3 + side), picture(0.0)).item() for side in (-1e-9, 1e-9)
    )
    assert above - below == pytest.approx(0.3 * 2e-9, rel=1e-3)


def test_pixels_are_averaged_over_what_is_seen() -> None:
    result, target = picture(0.5, -0.25, 1.0, 0.0), picture(0.0, 0.0, 0.0, 0.0)
    weight = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 4)
    assert value(spec.Pixel(), result, target, weight=weight).item() == pytest.approx((0.25 + 0.0625) / 2)
    weight = torch.tensor([1.0, 0.5, 0.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 4)
    assert value(spec.Pixel(), result, target, weight=weight).item() == pytest.approx((0.25 + 0.0625 / 2) / 1.5)


def test_total_variation() -> None:
    """Horizontal mean of |0.5|, |−1|; no vertical neighbours."""
    assert value(spec.TotalVariation(weight=1), picture(0, 0.5, -0.5), picture(0, 0, 0)).item() == pytest.approx(0.75)
    square = torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64).expand(1, 3, 2, 2)
    # Vertical |0.5|, |−0.5|; horizontal |1|, |0|.
    assert value(spec.TotalVariation(weight=1), square, square).item() == pytest.approx(0.5 + 0.5)
    assert value(spec.TotalVariation(weight=1), picture(0.3), picture(0.0)).item() == 0


def test_the_prior_is_about_searched_parts_alone() -> None:
    latents = {"z": torch.tensor([[3.0, 4.0], [0.0, 0.0]]), "noise": torch.full((2, 3), 100.0)}
    images = torch.zeros(2, 3, 2, 2)
    found = value(spec.LatentPrior(weight=1), images, images, latents=latents)
    assert found.tolist() == pytest.approx([25 / 4, 0])
    assert value(spec.LatentPrior(weight=0.1), images, images, latents=latents)[0].item() == pytest.approx(2.5 / 4)


def test_the_prior_is_the_sum_over_parts() -> None:
    space = LatentSpace({"z": Part((2,), Normal()), "class": Part((4,), Categorical(), Simplex())})
    latents = {"z": torch.tensor([[3.0, 4.0]]), "class": torch.full((1, 4), 0.25)}
    images = torch.zeros(1, 3, 2, 2)
    assert value(spec.LatentPrior(weight=1), images, images, latents=latents, space=space).item() == pytest.approx(7.25)
    uniform = LatentSpace({"u": Part((2,), Uniform())})
    assert value(spec.LatentPrior(), images, images, latents={"u": torch.ones(1, 2)}, space=uniform).item() == 0


def test_a_prior_without_residual_says_so() -> None:
    space = LatentSpace({"z": Part((2,), Normal()), "class": Part((4,), Categorical(), Simplex())})
    latents = {"z": torch.zeros(1, 2), "class": torch.full((1, 4), 0.25)}
    images = torch.zeros(1, 3, 2, 2)
    metric: Any = None
    target = Target(images, None, None, None)
    loss = LOSSES[spec.LatentPrior](spec.LatentPrior())
    assert loss.residual(Candidate(latents, images, images, target, metric), target, space, {}) is None


def test_numbers_come_by_row() -> None:
    """Rows of one call have each their own delta and weight."""
    loss = LOSSES[spec.Pixel](spec.Pixel(kind="huber"))
    images, target = picture(1.0).repeat(2, 1, 1, 1), Target(picture(0.0).repeat(2, 1, 1, 1), None, None, None)
    metric: Any = None
    rows = {"weight": torch.tensor([1.0, 10.0]).double(), "delta": torch.tensor([0.1, 2.0]).double()}
    found = loss(Candidate({}, images, images, target, metric), target, SPACE, rows)
    assert found.tolist() == pytest.approx([0.1 * 0.95, 10 * 0.5])


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (3,)])
def test_a_loss_that_is_not_per_row_is_caught(shape: tuple[int, ...]) -> None:
    class Reduced(Loss[spec.Pixel]):
        def value(self, candidate: Candidate, target: Target, space: LatentSpace, rows: Any) -> Tensor:
            return torch.zeros(shape)

    images = torch.zeros(2, 3, 2, 2)
    with pytest.raises(ShapeError, match=r"Reduced must give one number a row, \[2\]; it gave"):
        value(spec.Pixel(), images, images, loss=Reduced(spec.Pixel()))


def test_perceptual_terms_need_features() -> None:
    images = torch.zeros(1, 3, 2, 2)
    with pytest.raises(ShapeError, match="no features"):
        value(spec.Perceptual(), images, images)


def test_squared_error_and_psnr_are_on_the_right_scale() -> None:
    """A difference of 2 is the whole range: PSNR 0 dB, mean squared error 1 on [0, 1]."""
    from latent_inv.engine.run import metrics

    images, target = torch.ones(1, 3, 2, 2), torch.full((1, 3, 2, 2), -1.0)
    metric: Any = None
    seen = Target(target, None, None, None)
    scored = metrics(float(Candidate({}, images, images, seen, metric).squared_error), None)
    assert scored.mse == 1
    assert scored.psnr_db == 0
    assert metrics(4 * 10**-2.5, None).psnr_db == pytest.approx(25)
    assert metrics(0.0, None).psnr_db == 200
    assert math.isfinite(metrics(1e-300, None).psnr_db)


def maps(*each: Tensor) -> tuple[dict[str, Tensor], LatentSpace]:
    """Latents and space of some maps of noise, one row."""
    latents = {f"map{index}": tensor[None] for index, tensor in enumerate(each)}
    return latents, LatentSpace({name: Part(tuple(x.shape[1:]), NoiseMap()) for name, x in latents.items()})


def test_noise_correlation_by_hand() -> None:
    """Stripes of ±1: each neighbour across is the opposite, each along is the same; halved, they vanish."""
    images = picture(0.0)
    stripes = torch.tensor([1.0, -1.0]).repeat(8).expand(16, 16)
    latents, space = maps(stripes)
    assert value(spec.NoiseCorrelation(weight=1), images, images, latents=latents, space=space).item() == 2.0
    # Squares of 2 × 2: at full size neighbours agree as often as not, at half size they are a chessboard of ±2.
    squares = stripes.repeat_interleave(2, 0).repeat_interleave(2, 1)[:32, :32]
    squares = squares * squares.T
    latents, space = maps(squares[:16, :16])
    assert value(spec.NoiseCorrelation(weight=1), images, images, latents=latents, space=space).item() == 2 * 4.0**2
    small, space = maps(stripes[:4, :4])
    assert value(spec.NoiseCorrelation(weight=1), images, images, latents=small, space=space).item() == 0


def test_noise_correlation_of_noise_is_next_to_nothing() -> None:
    noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(noise[None], 5, stride=1, padding=2)[0]
    images, found = picture(0.0), []
    for each in (noise, smooth / smooth.std()):
        latents, space = maps(each)
        found.append(value(spec.NoiseCorrelation(weight=1), images, images, latents=latents, space=space).item())
    assert found[0] < 0.1 < 1 < found[1]


def test_noise_correlation_needs_maps() -> None:
    with pytest.raises(UnsupportedError, match=r"w\+noise of StyleGAN2") as caught:
        LOSSES[spec.NoiseCorrelation](spec.NoiseCorrelation()).check(SPACE)
    assert caught.value.field == "losses"
    LOSSES[spec.NoiseCorrelation](spec.NoiseCorrelation()).check(maps(torch.zeros(8, 8))[1])
