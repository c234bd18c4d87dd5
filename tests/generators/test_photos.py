"""The autoencoder that comes with the package, on photographs that it was not trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data

from latent_inv import spec as specs
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.generators import GENERATORS
from latent_inv.generators.photos_network import CHANNELS, PATCH, PhotoNetwork
from latent_inv.images import Picture, load
from latent_inv.solve import run
from tests.contracts import loaded


def photograph() -> np.ndarray:
    """A part of one, [3, 96, 128]."""
    return np.ascontiguousarray(load(data.chelsea()[100:196, 100:228]).pixels)


def psnr(image: np.ndarray, pixels: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(image - pixels).mean() / 4))


def test_a_photograph_is_encoded_and_decoded() -> None:
    pixels = photograph()
    encoded = run(Engine(GENERATORS, place("cpu")), specs.EncodeSpec(picture=Picture(pixels), generator="photos"))
    assert encoded.latents["spatial"].shape == (1, CHANNELS, 12, 16)
    assert psnr(encoded.image, pixels) > 30


def test_what_was_learnt_is_better_than_the_transform_alone() -> None:
    photos = loaded("photos")
    image = torch.from_numpy(photograph())[None]
    with torch.no_grad():
        network = photos.network
        alone = network.transformed_back(network.transformed(image))
        learnt = photos(photos.encode(image))  # type: ignore[arg-type]
    assert (learnt - image).square().mean() < 0.85 * (alone - image).square().mean()


def test_a_search_begins_at_the_encoder_and_ends_nearer() -> None:
    """Of an odd size, cropped back; what was added at the edges counts in nothing."""
    picture = Picture(np.ascontiguousarray(photograph()[:, :61, :75]))
    engine = Engine(GENERATORS, place("cpu"))
    first = run(engine, specs.EncodeSpec(picture=picture, generator="photos"))
    spec = specs.JobSpec(
        picture=picture,
        generator="photos",
        losses=(specs.Pixel(),),
        initialiser=specs.Encoder(),
        solver=specs.LBFGS(),
        budget=specs.Budget(steps=15),
    )
    result = run(engine, spec)
    assert result.image.shape == (3, 61, 75)
    assert result.metrics.psnr_db > psnr(first.image, picture.pixels) + 0.2


@pytest.mark.parametrize("blocks", [(0, 0, 0, 0), (1, 1, 1, 1)])
def test_an_untrained_network_is_the_transform(blocks: tuple[int, int, int, int]) -> None:
    network = PhotoNetwork(blocks)
    basis = torch.linalg.qr(torch.randn(3 * PATCH**2, CHANNELS, generator=torch.Generator().manual_seed(0))).Q
    with torch.no_grad():
        network.transform.copy_(basis.T.reshape(CHANNELS, 3, PATCH, PATCH))
        latents = torch.randn(2, CHANNELS, 3, 2)
        torch.testing.assert_close(network.encode(network.decode(latents)), latents, atol=1e-4, rtol=0)
