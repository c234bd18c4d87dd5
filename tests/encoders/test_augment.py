"""Spoilt pictures: still pictures, half of them untouched, and the same ones for the same seed."""

from __future__ import annotations

import pytest
import torch

from latent_inv.encoders.augment import WAYS, augment, jpeg_of
from latent_inv.seeding import stream
from tests.conftest import make_picture


def pictures(rows: int, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.stack([torch.from_numpy(make_picture(height, width, seed).pixels) for seed in range(rows)])


def test_half_of_them_stay_as_they_are() -> None:
    """400 coins: 4 standard deviations are 40."""
    images = pictures(20).repeat(20, 1, 1, 1)
    kept = images.clone()
    spoilt = augment(images, stream(0, "augment"))
    assert torch.equal(images, kept), "the input was changed"
    assert spoilt.shape == images.shape
    assert spoilt.dtype == images.dtype
    assert torch.isfinite(spoilt).all()
    assert spoilt.abs().max() <= 1
    same = sum(torch.equal(a, b) for a, b in zip(images, spoilt, strict=True))
    assert 160 <= same <= 240


def test_the_same_stream_spoils_the_same() -> None:
    images = pictures(30)
    first = augment(images, stream(4, "augment"))
    torch.manual_seed(1)
    assert torch.equal(first, augment(images, stream(4, "augment")))
    assert not torch.equal(first, augment(images, stream(5, "augment")))


@pytest.mark.parametrize("size", [(32, 32), (8, 12), (120, 40)], ids=str)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_spoils_and_leaves_a_picture(way: object, size: tuple[int, int]) -> None:
    (image,) = pictures(1, *size)
    kept = image.clone()
    different = 0
    for seed in range(20):
        found = way(image, stream(seed, "way"))  # type: ignore[operator]
        assert found.shape == image.shape
        assert torch.isfinite(found).all()
        assert torch.equal(image, kept), "the input was changed"
        assert (found - image).abs().mean() < 0.8, "nothing is left of it"
        different += not torch.equal(found, image)
    assert different > 15


def test_a_jpeg_is_near_and_worse_with_less_quality() -> None:
    (image,) = pictures(1, 64, 64)
    errors = [float((jpeg_of(image, quality) - image).square().mean()) for quality in (95, 50, 10)]
    assert errors == sorted(errors)
    assert 0 < errors[0] < 1e-3
    grey = jpeg_of(torch.zeros(3, 16, 16), 95)
    assert grey.abs().max() < 0.02, "mid-grey stays mid-grey"
