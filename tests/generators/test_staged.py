"""Generators of stages: cuts that change nothing, what is drawn there, and ways between spaces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import latent_inv
from latent_inv.errors import LatentsError
from latent_inv.generators import Faces
from latent_inv.generators.base import Generator
from latent_inv.generators.staged import Staged, layer_routes
from latent_inv.latents import load_latents, save_latents
from latent_inv.measured import LayerSpace, Measured
from tests import contracts
from tests.contracts import KINDS, loaded, size_of

ROUTES = [
    pytest.param(name, source, space, id=f"{name}-{source}-{space}")
    for name, kind in KINDS.items()
    for space, sources in kind.routes.items()
    for source in sources
]
STAGED = [name for name, kind in KINDS.items() if issubclass(kind, Staged)]


def draw(generator: Generator, space: str, seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, torch.Tensor]:
    return generator.sample(seeds, space, size_of(type(generator)))


@pytest.mark.parametrize(("name", "source", "space"), ROUTES)
class TestEveryRoute:
    def test_what_is_lifted_makes_the_same_picture(self, name: str, source: str, space: str) -> None:
        generator = loaded(name, torch.float64)
        latents = draw(generator, source)
        lifted = generator.lift(latents, space)
        generator.spaces[space].check(lifted, size_of(KINDS[name]))
        torch.testing.assert_close(generator(lifted), generator(latents), atol=1e-9, rtol=0)

    def test_what_is_lifted_is_in_its_set(self, name: str, source: str, space: str) -> None:
        generator = loaded(name)
        lifted = generator.lift(draw(generator, source), space)
        kept = generator.spaces[space].retract(lifted)
        assert all(torch.equal(kept[part], tensor) for part, tensor in lifted.items())

    def test_rows_are_lifted_apart(self, name: str, source: str, space: str) -> None:
        generator = loaded(name)
        part = next(iter(generator.spaces[space].searched))
        contracts.rows_are_apart(
            lambda latents: generator.lift(latents, space)[part],
            draw(generator, source, (0, 1, 2, 3)),
            draw(generator, source, (10, 11, 12, 13)),
        )


@pytest.mark.parametrize("name", list(KINDS))
def test_ways_lead_from_earlier_spaces_only(name: str) -> None:
    kind = KINDS[name]
    for space, sources in kind.routes.items():
        assert space in kind.spaces
        assert sources
        for index, source in enumerate(sources):
            assert source in kind.spaces
            assert set(kind.routes.get(source, ())) <= set(sources[:index]), "all of a way can be gone on"


@pytest.mark.parametrize("name", list(KINDS))
def test_where_no_way_leads_is_said(name: str) -> None:
    generator = loaded(name)
    first = generator.default_space
    latents = draw(generator, first)
    same = generator.lift(latents, first)
    assert all(same[part] is tensor for part, tensor in latents.items())
    if isinstance(generator, Staged):
        with pytest.raises(LatentsError, match="no other space can"):
            generator.lift(draw(generator, generator.stages[0]), first)


@pytest.mark.parametrize("name", STAGED)
class TestEveryStagedGenerator:
    def test_every_stage_is_a_space_that_can_be_reached(self, name: str) -> None:
        kind = KINDS[name]
        assert kind.stages
        for stage in kind.stages:
            space = kind.spaces[stage]
            assert isinstance(space, LayerSpace)
            assert any(isinstance(part.prior, Measured) for part in space.parts.values())
            assert kind.routes[stage]
        assert kind.info().stages == tuple(kind.stages)

    def test_spaces_have_parts_of_their_own(self, name: str) -> None:
        sets = [frozenset(space.parts) for space in KINDS[name].spaces.values()]
        assert len(set(sets)) == len(sets), "the parts of saved latents tell the space"

    def test_a_draw_is_what_earlier_stages_make_of_one(self, name: str) -> None:
        generator = loaded(name)
        origin = generator.default_space
        for stage in generator.stages:
            lifted = generator.lift(draw(generator, origin, (4,)), stage)
            for part, tensor in draw(generator, stage, (4,)).items():
                torch.testing.assert_close(tensor, lifted[part], atol=1e-6, rtol=1e-5)

    def test_draws_are_typical_of_their_layer(self, name: str) -> None:
        generator = loaded(name)
        for stage in generator.stages:
            latents = draw(generator, stage, tuple(range(40)))
            for part, held in generator.spaces[stage].parts.items():
                if isinstance(held.prior, Measured):
                    found = held.prior.typicality(latents[part])
                    assert 0.25 < float(found.mean()) < 0.75
                    assert float(held.prior.distance(latents[part]).median()) < 2
                    assert held.prior.typicality(latents[part][:1] + 100 * held.prior.scale) == 1

    def test_what_is_measured_does_not_depend_on_the_format(self, name: str) -> None:
        single, double = loaded(name), loaded(name, torch.float64)
        for stage in single.stages[:2]:
            for part, held in single.spaces[stage].parts.items():
                if isinstance(held.prior, Measured):
                    other = double.spaces[stage].parts[part].prior
                    assert isinstance(other, Measured)
                    torch.testing.assert_close(held.prior.statistics.mean, other.statistics.mean)
                    torch.testing.assert_close(held.prior.statistics.scale, other.statistics.scale)

    def test_the_class_itself_is_not_measured(self, name: str) -> None:
        loaded(name)
        for stage in KINDS[name].stages:
            space = KINDS[name].spaces[stage]
            assert isinstance(space, LayerSpace)
            assert space.draw is None


def test_routes_go_from_stage_to_stage() -> None:
    assert layer_routes(("z",), ("a", "b")) == {"a": ("z",), "b": ("z", "a")}
    assert layer_routes(("z", "w"), ("a",)) == {"a": ("z", "w")}


def test_the_layers_of_faces_are_those_of_its_network() -> None:
    faces = loaded("faces")
    shapes = {stage: faces.spaces[stage].shapes((64, 64))[stage] for stage in faces.stages}
    assert shapes == {
        "layer:1": (512, 4, 4),
        "layer:2": (256, 8, 8),
        "layer:3": (128, 16, 16),
        "layer:4": (64, 32, 32),
    }
    latents = draw(faces, "z")
    whole = faces.network(latents["z"][:, :, None, None])
    assert torch.equal(faces(latents), whole), "cutting it changes no bit"


def test_a_layer_that_was_found_decodes_again(tmp_path: Path) -> None:
    """Through a folder of results, with the shipped encoder on the way."""
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    result = latent_inv.invert(picture, "faces", space="layer:2", steps=6, losses=(latent_inv.Pixel(),))
    assert result.picked["start"]["type"] == "Encoder"
    saved = result.save(tmp_path)
    again = latent_inv.decode(tmp_path / saved.files["latents"], "faces")
    np.testing.assert_allclose(again.images[0], result.image, atol=1e-5)
    further = latent_inv.invert(picture, "faces", space="layer:3", start=result, steps=0, losses=(latent_inv.Pixel(),))
    assert further.loss == pytest.approx(result.loss, rel=1e-4), "lifted from there"


def test_a_picture_that_the_generator_made_is_found_on_the_way() -> None:
    picture = latent_inv.sample(11).images[0].transpose(1, 2, 0)
    result = latent_inv.invert(picture, "faces", space="layer:3", value_range=(-1, 1))
    assert set(result.latents) == {"layer:3"}
    assert result.metrics.psnr_db > 100
    assert result.steps <= 40, "no step was made in a layer"
    assert result.typicality["layer:3"] < 1


def test_an_encoder_of_z_finds_layers_too() -> None:
    picture = latent_inv.sample(5).images[0].transpose(1, 2, 0)
    encoded = {
        space: latent_inv.encode(picture, "faces", space=space, value_range=(-1, 1))
        for space in ("z", "layer:1", "layer:3")
    }
    for space, found in encoded.items():
        assert set(found.latents) == {space}
        np.testing.assert_allclose(found.image, encoded["z"].image, atol=1e-5)
    start = {"initialiser": latent_inv.Encoder(passes=3), "solver": latent_inv.Adam(), "steps": 0}
    inverted = latent_inv.invert(picture, "faces", space="layer:3", value_range=(-1, 1), **start)
    np.testing.assert_allclose(inverted.image, encoded["z"].image, atol=1e-5)


@pytest.mark.parametrize("stage", Faces.stages)
def test_saved_latents_decode_again(tmp_path: Path, stage: str) -> None:
    """In another process there would be nothing but the file, and nothing of this generator's object is used here."""
    drawn = latent_inv.sample(3, space=stage)
    path = tmp_path / "layer.safetensors"
    save_latents(path, drawn.latents, generator="faces", space=stage, weights_sha256=drawn.weights_sha256)
    assert set(load_latents(path).latents) == {stage}
    again = latent_inv.decode(path, "faces")
    assert (again.images == drawn.images).all()
