"""The contract of generators, on a small one that the family opens from a file made here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import latent_inv
from latent_inv.errors import UnsupportedError
from latent_inv.generators import open_table
from latent_inv.generators.half import HALVES
from latent_inv.generators.stylegan2 import convert
from latent_inv.generators.stylegan2.architecture import Architecture
from tests import contracts
from tests.generators import test_contract as contract
from tests.generators import test_staged as staged
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


SPACES = ["z", "w", "w+", "w+noise", "s", "layer:1"]


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("space", SPACES)
def test_half_precision_is_near(name: str, space: str, precision: str) -> None:
    exact = contracts.loaded(name)
    latents = exact.sample((1, 2), space)
    with torch.no_grad():
        expected, found = exact(latents), exact.rounded(HALVES[precision])(latents)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).square().mean().sqrt() < 0.05 * expected.std()


TestEverySpace = pytest.mark.parametrize("space", SPACES)(_laws(contract.TestEverySpace))
TestEveryGenerator = _laws(contract.TestEveryGenerator)
TestEveryRoute = pytest.mark.parametrize(("source", "space"), [("w+", "layer:1")])(_laws(staged.TestEveryRoute))
TestEveryStagedGenerator = _laws(staged.TestEveryStagedGenerator)


def opened(folder: Path, shape: Architecture = SMALL) -> str:
    convert(write(folder / "a.pkl", pickled(network(shape))), folder / "a.safetensors")
    return f"stylegan2:{folder / 'a.safetensors'}"


def test_layers_follow_each_other(tmp_path: Path) -> None:
    """Of three blocks there are two layers; each makes the same picture as what it was lifted from."""
    generator = open_table().find(opened(tmp_path)).load(torch.device("cpu"), torch.float64)
    assert generator.stages == ("layer:1", "layer:2")
    extended = generator.sample((1, 2), "w+", (16, 16))
    extended["w+"] = extended["w+"] + 0.3 * torch.randn_like(extended["w+"])
    first = generator.lift(extended, "layer:1")
    second = generator.lift(first, "layer:2")
    assert [tuple(first[part].shape[1:]) for part in ("layer:1", "skip", "later")] == [(6, 4, 4), (3, 4, 4), (5, 6)]
    assert [tuple(second[part].shape[1:]) for part in ("layer:2", "skip", "later")] == [(5, 8, 8), (3, 8, 8), (3, 6)]
    for lifted in (first, second, generator.lift(extended, "layer:2")):
        torch.testing.assert_close(generator(lifted), generator(extended), atol=1e-9, rtol=0)


@pytest.mark.slow
def test_latents_of_a_layer_are_found_and_decode_again_after_a_restart(tmp_path: Path) -> None:
    name = opened(tmp_path, replace(SMALL, channels=(6, 5, 4, 4)))
    # No picture of this network: a layer comes nearer to it than the vectors w do.
    coarse = torch.from_numpy(np.random.default_rng(0).uniform(-0.8, 0.8, (1, 3, 4, 4)).astype(np.float32))
    picture = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic")[0].clamp(-1, 1).numpy()
    settings = {"losses": (latent_inv.Pixel(),), "value_range": (-1, 1), "steps": 120}
    extended = latent_inv.invert(picture, name, **settings)
    wide = latent_inv.Lifted(radius=100)
    result = latent_inv.invert(picture, name, space="layer:2", initialiser=wide, **settings)
    assert result.metrics.psnr_db > extended.metrics.psnr_db + 1
    saved = result.save(tmp_path / "out")
    code = "import sys, numpy, latent_inv\nnumpy.save(sys.argv[3], latent_inv.decode(sys.argv[1], sys.argv[2]).images)"
    arguments = [str(tmp_path / "out" / saved.files["latents"]), name, str(tmp_path / "again.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    again = np.load(tmp_path / "again.npy")
    np.testing.assert_allclose(again[0], result.image, atol=1e-5)


@pytest.mark.slow
def test_maps_of_noise_stay_noise(tmp_path: Path) -> None:
    """With the term, maps have next to no correlation with themselves, and they are standardised either way."""
    name = opened(tmp_path, replace(SMALL, channels=(6, 5, 4, 4)))
    picture = np.random.default_rng(0).uniform(-0.8, 0.8, (3, 4, 4)).repeat(8, 1).repeat(8, 2).astype(np.float32)
    pixel, term = latent_inv.Pixel(), latent_inv.NoiseCorrelation(weight=100)
    found = {}
    for losses in ((pixel,), (pixel, term)):
        result = latent_inv.invert(
            picture, name, space="w+noise", losses=losses, value_range=(-1, 1), steps=80, solver=latent_inv.Adam()
        )
        maps = {part: torch.from_numpy(x[0]) for part, x in result.latents.items() if part.startswith("noise.")}
        assert len(maps) == 7
        for each in maps.values():
            assert float(each.mean()) == pytest.approx(0, abs=1e-5)
            assert float(each.square().mean()) == pytest.approx(1, abs=1e-4)
        finest = maps["noise.b32.conv1"]
        found[len(losses)] = abs(float((finest * finest.roll(1, 0)).mean())) + abs(
            float((finest * finest.roll(1, 1)).mean())
        )
    assert found[2] < 0.3 * found[1]
    with pytest.raises(UnsupportedError, match="noise_correlation needs"):
        latent_inv.invert(picture, name, losses=(pixel, term), value_range=(-1, 1), steps=1)
