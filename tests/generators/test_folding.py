"""Batch normalisation that convolutions have taken over."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from latent_inv.generators.folding import fold_norms
from tests.contracts import loaded


def at_rest(network: nn.Module) -> nn.Module:
    """Statistics and weights as if it had been trained."""
    draw = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.uniform_(0.3, 2, generator=draw)
    return network.eval().requires_grad_(False)


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def pictures() -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["faces", "eyes"])
def test_none_is_left_of_a_dcgan_and_it_computes_the_same(name: str) -> None:
    network = copy.deepcopy(loaded(name, torch.float64).network)
    z = torch.linspace(-2, 2, 2 * network[0].in_channels, dtype=torch.float64).reshape(2, -1, 1, 1)
    expected, before = network(z), len(network)
    assert norms(network) >= 4
    folded = fold_norms(network)
    assert (norms(folded), len(folded)) == (0, before), "stages are cut by the places of layers"
    torch.testing.assert_close(folded(z), expected, atol=1e-10, rtol=0)


def shared_activation() -> nn.Module:
    """The normalisation at the end follows an activation that has been there before."""
    relu = nn.ReLU()
    return nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), relu, nn.Conv2d(4, 4, 1), relu, nn.BatchNorm2d(4))


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (lambda: nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(6)), 0),
        (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6, affine=False)), 0),
        (lambda: nn.Sequential(nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)), nn.ReLU()), 0),
        (shared_activation, 1),
        (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1)), 1),
        (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), 1),
        (lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)), 1),
        (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)), 1),
    ],
)
def test_only_what_is_plain_is_folded(make: Callable[[], nn.Module], left: int) -> None:
    torch.manual_seed(0)
    network = at_rest(make())
    expected = network(pictures())
    folded = fold_norms(copy.deepcopy(network))
    assert norms(folded) == left
    torch.testing.assert_close(folded(pictures()), expected, atol=1e-5, rtol=1e-5)


def test_a_layer_with_a_hook_stays() -> None:
    network = at_rest(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)))
    seen: list[Tensor] = []
    network[0].register_forward_hook(lambda _layer, _given, made: seen.append(made))
    assert norms(fold_norms(network)) == 1
    network(pictures())
    assert len(seen) == 1
