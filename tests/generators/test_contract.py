"""What every generator promises; a new one is tested by being in the table."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from typing import Any

import pytest
import torch

from latent_inv.errors import InputError, LatentsError, ShapeError, SpecError
from latent_inv.generators import GENERATORS
from latent_inv.generators.base import Generator
from latent_inv.result import GeneratorInfo
from tests import contracts
from tests.contracts import KINDS, loaded, size_of

SPACES = [pytest.param(name, space, id=f"{name}-{space}") for name, kind in KINDS.items() for space in kind.spaces]
NAMES = list(KINDS)


def draw(generator: Generator, space: str, seeds: Any = (0, 1, 2)) -> dict[str, torch.Tensor]:
    return generator.sample(seeds, space, size_of(type(generator)))


@pytest.mark.parametrize(("name", "space"), SPACES)
class TestEverySpace:
    def test_a_picture_has_the_promised_form(self, name: str, space: str) -> None:
        generator = loaded(name)
        images = generator(draw(generator, space))
        assert images.shape == (3, 3, *size_of(KINDS[name]))
        assert images.dtype == torch.float32
        assert torch.isfinite(images).all()
        assert images.abs().max() <= 1
        if name != "blind":
            assert (images[0] - images[1]).abs().max() > 0.01, "all latents give one picture"

    def test_the_same_latents_give_the_same_picture(self, name: str, space: str) -> None:
        generator = loaded(name)
        latents = draw(generator, space)
        kept = {part: tensor.clone() for part, tensor in latents.items()}
        assert torch.equal(generator(latents), generator(latents))
        assert all(torch.equal(tensor, kept[part]) for part, tensor in latents.items()), "the latents were changed"

    def test_rows_are_apart(self, name: str, space: str) -> None:
        if name == "blind":
            pytest.skip("makes one picture of all latents")
        generator = loaded(name)
        contracts.rows_are_apart(generator, draw(generator, space, range(4)), draw(generator, space, range(10, 14)))

    def test_rows_do_not_depend_on_the_batch(self, name: str, space: str) -> None:
        """1e-5 leaves room for other kernels at other widths; batch statistics would differ by tenths."""
        generator = loaded(name)
        contracts.rows_do_not_depend_on_the_batch(generator, draw(generator, space, range(4)), 1e-5)

    def test_decoding_leaves_no_trace(self, name: str, space: str) -> None:
        generator = loaded(name)
        contracts.weights_are_frozen(generator.network, lambda: generator(draw(generator, space)))

    def test_a_gradient_leaves_no_trace_either(self, name: str, space: str) -> None:
        generator = loaded(name)
        if not generator.differentiable:
            pytest.skip("says that it gives none")

        def work() -> None:
            latents = {part: tensor.requires_grad_() for part, tensor in draw(generator, space).items()}
            generator(latents).square().sum().backward()

        contracts.weights_are_frozen(generator.network, work)

    def test_a_sample_depends_on_its_own_seed_alone(self, name: str, space: str) -> None:
        generator = loaded(name)
        many, alone = draw(generator, space, (5, 9, 5)), draw(generator, space, (9,))
        for part, tensor in many.items():
            assert torch.equal(tensor[1:2], alone[part])
            assert torch.equal(tensor[0], tensor[2])
        assert any(not torch.equal(tensor[0], tensor[1]) for tensor in many.values())

    def test_a_sample_is_the_same_in_both_number_formats(self, name: str, space: str) -> None:
        single, double = draw(loaded(name), space), draw(loaded(name, torch.float64), space)
        for part, tensor in double.items():
            assert tensor.dtype == torch.float64
            assert torch.equal(tensor.float(), single[part])

    def test_both_number_formats_make_one_picture(self, name: str, space: str) -> None:
        """1e-4 is some roundings of float32 through the network."""
        single, double = loaded(name), loaded(name, torch.float64)
        images = double(draw(double, space))
        assert images.dtype == torch.float64
        torch.testing.assert_close(single(draw(single, space)).double(), images, atol=1e-4, rtol=0)

    def test_samples_are_of_the_space(self, name: str, space: str) -> None:
        generator = loaded(name)
        latents, described = draw(generator, space), generator.spaces[space]
        shapes = described.shapes(size_of(KINDS[name]))
        assert {part: tuple(tensor.shape[1:]) for part, tensor in latents.items()} == shapes
        kept = described.retract(latents)
        for part, tensor in latents.items():
            # A draw of a sphere's prior is near the sphere, not on it; all other sets hold their draws.
            if described.parts[part].constraint.name != "sphere":
                torch.testing.assert_close(kept[part], tensor, atol=1e-6, rtol=0)
        described.check(latents, size_of(KINDS[name]))

    def test_the_mean_decodes(self, name: str, space: str) -> None:
        generator = loaded(name)
        mean = generator.spaces[space].mean(size_of(KINDS[name]))
        assert torch.isfinite(generator({part: generator.place(tensor) for part, tensor in mean.items()})).all()

    def test_the_size_of_the_picture_is_known_before(self, name: str, space: str) -> None:
        generator = loaded(name)
        latents = draw(generator, space)
        assert generator.picture_size(latents) == tuple(generator(latents).shape[-2:])

    def test_the_parts_tell_the_decoder_what_to_do(self, name: str, space: str) -> None:
        generator = loaded(name)
        parts = set(generator.spaces[space].parts)
        assert set(generator.spaces[generator.space_of(draw(generator, space))].parts) == parts

    def test_latents_of_another_form_are_refused(self, name: str, space: str) -> None:
        generator = loaded(name)
        good = draw(generator, space)
        with pytest.raises(LatentsError):
            generator({**good, "no such part": torch.zeros(3, 1)})
        with pytest.raises(LatentsError):
            generator({})
        for part, tensor in good.items():
            with pytest.raises(LatentsError):
                generator({other: t for other, t in good.items() if other != part})
            for bad in (tensor[0], tensor[:, :-1], tensor[None], tensor.sum()):
                with pytest.raises(ShapeError):
                    generator({**good, part: bad})
            if len(good) > 1:
                with pytest.raises(ShapeError, match="rows"):
                    generator({**good, part: tensor[:2]})

    @pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
    def test_the_gradient_is_right(self, name: str, space: str, twice: bool) -> None:
        generator = loaded(name, torch.float64)
        if not generator.differentiable:
            pytest.skip("says that it gives none")
        latents = draw(generator, space, (3,))
        parts = generator.spaces[space].searched

        def weighed(*searched: torch.Tensor) -> torch.Tensor:
            images = generator({**latents, **dict(zip(parts, searched, strict=True))})
            # A few sums: each output of a check costs a pass.
            return (images * torch.linspace(-1, 1, images.numel(), dtype=images.dtype).reshape(images.shape)).sum()

        contracts.gradient_is_right(weighed, tuple(latents[part] for part in parts), twice=twice)

    def test_forward_mode_is_right(self, name: str, space: str) -> None:
        generator = loaded(name, torch.float64)
        if not generator.forward_mode or name == "blind":
            pytest.skip("says that it has none, or nothing to see")
        latents = draw(generator, space, (3,))
        part = generator.spaces[space].searched[0]
        direction = torch.randn(latents[part].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        contracts.tangent_is_right(lambda x: generator({**latents, part: x}), latents[part], direction)


@pytest.mark.parametrize("name", NAMES)
class TestEveryGenerator:
    def test_its_description_is_plain(self, name: str) -> None:
        info = KINDS[name].info()
        assert pickle.loads(pickle.dumps(info)) == info
        again = json.loads(json.dumps(asdict(info), allow_nan=False))
        assert again["name"] == KINDS[name].name
        assert isinstance(info, GeneratorInfo)

    def test_its_description_is_complete(self, name: str) -> None:
        info = KINDS[name].info()
        assert info.title
        assert info.source
        assert info.default_space in info.spaces
        assert len(info.licence) == 3
        assert all(info.licence)
        assert len(info.weights_sha256) == 64
        assert info.stride >= 1
        assert all(KINDS[name].spaces[space].searched for space in info.spaces), "a space without anything to search"

    def test_names_and_sizes_are_resolved(self, name: str) -> None:
        generator = loaded(name)
        assert generator.resolve_space("") == generator.default_space
        with pytest.raises(SpecError, match="unknown space") as caught:
            generator.resolve_space("no such space")
        assert caught.value.field == "space"
        own = generator.resolve_size(0, 0)
        assert generator.resolve_size(*own) == own
        if generator.size:
            with pytest.raises(SpecError, match="makes"):
                generator.resolve_size(own[0] + 1, own[1])
        elif generator.stride > 1:
            with pytest.raises(SpecError, match="multiples"):
                generator.resolve_size(own[0] + 1, own[1])

    def test_an_encoder_is_there_if_it_is_promised(self, name: str) -> None:
        generator = loaded(name)
        images = generator(draw(generator, ""))
        latents = generator.encode(images)
        assert (latents is not None) == generator.has_encoder
        if latents is not None:
            space = generator.spaces[generator.default_space]
            space.check(latents, size_of(KINDS[name]))
            assert all(torch.isfinite(tensor).all() for tensor in latents.values())

    def test_a_copy_is_not_shared_between_formats(self, name: str) -> None:
        single, double = loaded(name), loaded(name, torch.float64)
        assert {p.dtype for p in single.network.parameters()} == {torch.float32}
        assert {p.dtype for p in double.network.parameters()} == {torch.float64}


def test_table_and_names_agree() -> None:
    assert all(kind.name == name for name, kind in GENERATORS.items())


def test_any_size_has_a_size_of_its_own() -> None:
    toy = loaded("toy")
    for size in ((8, 8), (24, 8), (16, 40)):
        latents = toy.sample((0,), "", size)
        assert toy.picture_size(latents) == size
        assert toy(latents).shape[-2:] == size


def test_every_refusal_is_an_input_error() -> None:
    assert issubclass(LatentsError, InputError)
    assert issubclass(ShapeError, InputError)
