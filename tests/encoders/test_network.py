"""The network: which shapes it takes and gives, and that rows and sets are kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from latent_inv.constraints import Box
from latent_inv.encoders import EncoderNetwork, Shape, refine, shape_for, start_of
from latent_inv.spaces import LatentSpace, Normal, Part
from tests import contracts
from tests.encoders.helpers import SPACES, network_of, space_of

#: square, and not
SIZES = {"smooth": (32, 32), "map": (16, 24), "mixed": (24, 16)}


def inputs(where: str, rows: int = 3, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    space, size = space_of(where), SIZES[where]
    noise = torch.Generator().manual_seed(1)
    images = torch.rand(rows, 3, *size, generator=noise, dtype=dtype) * 2 - 1
    drawn = [space.sample(size, noise) for _ in range(rows)]
    latents = {name: torch.cat([draw[name] for draw in drawn]).to(dtype) for name in space.searched}
    return {"images": images, "decoded": images.flip(0).clone(), "latents": latents}


@pytest.mark.parametrize(
    ("where", "size", "expected"),
    [
        ("smooth", (32, 32), Shape((8, 16, 32), {"z": 12}, {})),
        ("map", (64, 64), Shape((8, 16, 32), {}, {"code": (4, 3)})),
        ("mixed", (64, 64), Shape((8, 16, 32, 32), {"class": 5}, {"code": (4, 3)})),
        ("mixed", (16, 96), Shape((8, 16, 32), {"class": 5}, {"code": (4, 3)})),
    ],
)
def test_the_shape_is_that_of_what_is_searched(where: str, size: tuple[int, int], expected: Shape) -> None:
    shape = shape_for(space_of(where), size, 8, 32)
    assert shape == expected
    assert Shape.from_json(shape.to_json()) == shape


def test_maps_of_several_depths_are_read_at_their_own() -> None:
    space = LatentSpace({"fine": Part((2, -2, -2), Normal()), "coarse": Part((3, -8, -8), Normal(), Box())})
    network = EncoderNetwork(shape_for(space, (32, 48), 8, 32))
    assert network.shape == Shape((8, 16, 32), {}, {"fine": (2, 1), "coarse": (3, 3)})
    latents = {"fine": torch.zeros(2, 2, 16, 24), "coarse": torch.zeros(2, 3, 4, 6)}
    found = network.eval()(torch.zeros(2, 3, 32, 48), None, latents)
    assert {name: tensor.shape for name, tensor in found.items()} == {n: t.shape for n, t in latents.items()}


@pytest.mark.parametrize("where", SPACES)
class TestEverySpace:
    def test_each_part_comes_back_in_its_shape(self, where: str) -> None:
        given, network = inputs(where), network_of(where, SIZES[where])
        for decoded in (None, given["decoded"]):
            found = network(given["images"], decoded, given["latents"])
            assert found.keys() == given["latents"].keys()
            for name, tensor in found.items():
                assert tensor.shape == given["latents"][name].shape
                assert torch.isfinite(tensor).all()
                assert tensor.abs().max() > 0

    def test_an_untrained_network_corrects_nothing(self, where: str) -> None:
        network = EncoderNetwork(shape_for(space_of(where), SIZES[where], 8, 32)).eval()
        given = inputs(where)
        found = network(given["images"], given["decoded"], given["latents"])
        assert all((tensor == 0).all() for tensor in found.values())

    def test_all_that_is_given_has_an_influence(self, where: str) -> None:
        network, given = network_of(where, SIZES[where]), inputs(where)
        first = network(given["images"], given["decoded"], given["latents"])
        changed = [{**given, "images": -given["images"]}, {**given, "decoded": given["decoded"] * 0.5}]
        for name, tensor in given["latents"].items():
            changed.append({**given, "latents": {**given["latents"], name: tensor * 0.5}})
        for other in changed:
            second = network(other["images"], other["decoded"], other["latents"])
            assert all(not torch.equal(first[name], second[name]) for name in first)

    def test_rows_are_apart(self, where: str) -> None:
        network = network_of(where, SIZES[where], strength=0.01).double()

        def look(tree: Any) -> torch.Tensor:
            return network(tree["images"], tree["decoded"], tree["latents"])[space_of(where).searched[0]]

        contracts.rows_do_not_depend_on_the_batch(look, inputs(where, dtype=torch.float64), 1e-9)

    def test_what_comes_out_is_in_its_set(self, where: str) -> None:
        """However large the corrections are."""
        space, given = space_of(where), inputs(where)
        network = network_of(where, SIZES[where], strength=3.0)
        found = refine(network, space, given["images"], None, start_of(space, SIZES[where], 3, given["images"]))
        for name, tensor in found.items():
            torch.testing.assert_close(space.parts[name].constraint(tensor), tensor)
        if where != "smooth":
            assert found["code"].abs().max() == 1, "nothing was out"


def test_corrections_are_in_units_of_the_prior() -> None:
    """A uniform code on [-1, 1] has a deviation of 1/√3."""
    space, given = space_of("map"), inputs("map")
    network = network_of("map", SIZES["map"], strength=0.001)
    start = start_of(space, SIZES["map"], 3, given["images"])
    assert (start["code"] == 0).all()
    correction = network(given["images"], None, start)["code"]
    moved = refine(network, space, given["images"], None, start)["code"]
    torch.testing.assert_close(moved, correction / 3**0.5)
