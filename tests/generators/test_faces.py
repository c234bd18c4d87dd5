"""`faces` with its real weights, against a plain DCGAN written here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latent_inv.assets import ASSETS, fetch, load_checkpoint, weights_hash
from tests.contracts import loaded


def reference(z: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Radford, Metz and Chintala (2016), figure 1, function by function: [R, 100] -> [R, 3, 64, 64]."""
    x = z.reshape(-1, 100, 1, 1)
    for block in range(4):
        stride, padding = (1, 0) if block == 0 else (2, 1)
        x = F.conv_transpose2d(x, weights[f"main.{3 * block}.weight"], stride=stride, padding=padding)
        norm = f"main.{3 * block + 1}."
        mean, variance = (weights[norm + name][None, :, None, None] for name in ("running_mean", "running_var"))
        scale, shift = (weights[norm + name][None, :, None, None] for name in ("weight", "bias"))
        x = ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp_min(0)
    return torch.tanh(F.conv_transpose2d(x, weights["main.12.weight"], stride=2, padding=1))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_checkpoint(fetch("faces"))["netG_state_dict"]
    return found


def test_it_is_the_network_of_the_paper(weights: dict[str, Tensor]) -> None:
    """In float64 both are the same sums in another order."""
    generator = loaded("faces", torch.float64)
    z = generator.sample((0, 1, 2))
    expected = reference(z["z"], {name: tensor.double() for name, tensor in weights.items()})
    torch.testing.assert_close(generator(z), expected, atol=1e-10, rtol=0)


def test_every_weight_is_used(weights: dict[str, Tensor]) -> None:
    network = loaded("faces").network.state_dict()
    assert len(network) == len(weights)
    for name, tensor in weights.items():
        assert torch.equal(network[name.removeprefix("main.")], tensor)


def test_seed_0_is_the_face_that_it_was() -> None:
    """Means of a 2 × 2 split, red, green, blue; 1e-4 leaves room for other machines."""
    image = loaded("faces")(loaded("faces").sample((0,)))[0]
    assert image.abs().max() <= 1
    means = F.adaptive_avg_pool2d(image, 2).flatten(1).numpy()
    np.testing.assert_allclose(means, SEED_0, atol=1e-4)


def test_it_is_a_face_and_not_noise() -> None:
    """Neighbouring pixels agree far better than pixels drawn at random."""
    images = loaded("faces")(loaded("faces").sample(range(8)))
    neighbours = (images[..., 1:] - images[..., :-1]).abs().mean()
    assert neighbours < 0.25 * images.flip(-1).sub(images.roll(1, 0)).abs().mean()
    assert images.std() > 0.2


def test_the_stated_hash_is_that_of_the_file() -> None:
    assert loaded("faces").weights_sha256 == ASSETS["faces"].sha256 == weights_hash("faces")


SEED_0 = [
    [0.07641, -0.22703, 0.00933, -0.29597],
    [-0.21235, -0.28223, -0.33928, -0.34411],
    [-0.35638, -0.39061, -0.51760, -0.44424],
]
