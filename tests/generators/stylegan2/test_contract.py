"""The contract of generators, on a small one that the family opens from a file made here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from latent_inv.generators import open_table
from latent_inv.generators.half import HALVES
from latent_inv.generators.stylegan2 import convert
from tests import contracts
from tests.generators import test_contract as contract
from tests.generators.stylegan2.making import CLASSES, SMALL, network, pickled, write


@pytest.fixture(scope="module", params=[SMALL, CLASSES], ids=["plain", "classes"])
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("stylegan2")
    convert(write(folder / "a.pkl", pickled(network(request.param))), folder / "a.safetensors")
    reference = f"stylegan2:{folder / 'a.safetensors'}"
    contracts.KINDS[reference] = open_table().find(reference)
    yield reference
    del contracts.KINDS[reference]


def _laws(kind: type) -> type:
    """The tests of a class without its marks, which are for the generators of the table."""
    return type(kind.__name__, (), {name: value for name, value in vars(kind).items() if name.startswith("test_")})


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("space", ["z", "w", "w+", "w+noise", "s"])
def test_half_precision_is_near(name: str, space: str, precision: str) -> None:
    exact = contracts.loaded(name)
    latents = exact.sample((1, 2), space)
    with torch.no_grad():
        expected, found = exact(latents), exact.rounded(HALVES[precision])(latents)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).square().mean().sqrt() < 0.05 * expected.std()


TestEverySpace = pytest.mark.parametrize("space", ["z", "w", "w+", "w+noise", "s"])(_laws(contract.TestEverySpace))
TestEveryGenerator = _laws(contract.TestEveryGenerator)
