"""Generators of one's own promise what every generator promises: the laws of `test_contract`, on files made here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latent_inv.errors import UnsupportedError
from latent_inv.generators import Generator
from tests import contracts, own
from tests.generators import test_contract as contract

#: how each is made, in a folder of its own
MAKERS: dict[str, Callable[[Path], type[Generator]]] = {
    "one row": lambda folder: own.opened("exported", own.export_vector(folder / "a.pt2", 1), "one row"),
    "three rows": lambda folder: own.opened("exported", own.export_vector(folder / "a.pt2", 3), "three rows"),
    "any rows": lambda folder: own.opened("exported", own.export_vector(folder / "a.pt2"), "any rows"),
    "decomposed": lambda folder: own.opened(
        "exported", own.export_vector(folder / "a.pt2", decompose=True), "decomposed"
    ),
    "any size": lambda folder: own.opened("exported", own.export_any_size(folder / "a.pt2"), "any size"),
    "onnx": lambda folder: own.opened("onnx", own.write_onnx(folder / "a.onnx"), "onnx"),
    "onnx, two rows": lambda folder: own.opened("onnx", own.write_onnx(folder / "a.onnx", 2), "onnx, two rows"),
    "module": lambda folder: own.opened("python", "tests.own:described_module", "module"),
}
#: onnxruntime computes these in float32 alone, see `test_a_format_that_is_not_there`
SINGLE = ("onnx", "onnx, two rows")
DOUBLE_LAWS = (
    "test_a_sample_is_the_same_in_both_number_formats",
    "test_both_number_formats_make_one_picture",
    "test_the_gradient_is_right",
    "test_forward_mode_is_right",
    "test_a_copy_is_not_shared_between_formats",
)

_made: dict[str, type[Generator]] = {}


def laws(kind: type) -> list[str]:
    return [name for name in dir(kind) if name.startswith("test_")]


@pytest.fixture
def name(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A generator that the laws find by this name."""
    chosen: str = request.param
    if chosen not in _made:
        _made[chosen] = MAKERS[chosen](tmp_path_factory.mktemp("own"))
    monkeypatch.setitem(contracts.KINDS, chosen, _made[chosen])
    return chosen


def run(law: Callable[..., None], *arguments: str) -> None:
    twice = "twice" in inspect.signature(law).parameters
    for chosen in (False, True) if twice else (None,):
        law(*arguments, *(() if chosen is None else (chosen,)))


@pytest.mark.parametrize("law", laws(contract.TestEverySpace))
@pytest.mark.parametrize("name", MAKERS, indirect=True)
def test_the_laws_of_spaces(name: str, law: str) -> None:
    if name in SINGLE and law in DOUBLE_LAWS:
        pytest.skip("computes in float32 alone")
    for space in contracts.KINDS[name].spaces:
        run(getattr(contract.TestEverySpace(), law), name, space)


@pytest.mark.parametrize("law", laws(contract.TestEveryGenerator))
@pytest.mark.parametrize("name", MAKERS, indirect=True)
def test_the_laws_of_generators(name: str, law: str) -> None:
    if name in SINGLE and law in DOUBLE_LAWS:
        pytest.skip("computes in float32 alone")
    run(getattr(contract.TestEveryGenerator(), law), name)


@pytest.mark.parametrize("name", SINGLE, indirect=True)
def test_a_format_that_is_not_there(name: str) -> None:
    with pytest.raises(UnsupportedError, match="computes in float32, found float64") as caught:
        contracts.loaded(name, torch.float64)
    assert caught.value.field == "dtype"


@pytest.mark.parametrize("name", MAKERS, indirect=True)
def test_rows_are_the_same_wherever_they_stand(name: str) -> None:
    """Law 1 of the engine, at one width: also where calls of the program are narrower or wider."""
    generator = contracts.loaded(name)
    latents = contract.draw(generator, "", range(4))
    forward, backward = generator(latents), generator({part: tensor.flip(0) for part, tensor in latents.items()})
    assert torch.equal(forward, backward.flip(0))
