"""`python:`: entries of the user's own code, and what is said when that fails."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import torch

from latent_inv.errors import AssetError
from latent_inv.generators.python_entry import weights_of
from tests import own
from tests.toy import Smooth

CPU = torch.device("cpu")


def opened(entry: str) -> type[own.Generator]:
    return own.opened("python", f"tests.own_entries:{entry}", "mine")


@pytest.mark.parametrize("entry", ["Mine", "make_class"])
def test_a_class(entry: str) -> None:
    kind = opened(entry)
    assert kind.name == "mine"
    assert kind.info().title == "Mine"
    generator, plain = kind.load(CPU, torch.float32), Smooth.load(CPU, torch.float32)
    latents = plain.sample((1, 2))
    assert torch.equal(generator(latents), plain(latents))
    assert generator.encode(generator(latents)) is None


def test_a_module_with_a_description() -> None:
    kind = opened("make_module")
    generator = kind.load(CPU, torch.float32)
    latents = generator.sample((1, 2))
    module = own.seeded(own.Vector)
    torch.testing.assert_close(generator(latents), module(latents["z"]), atol=1e-6, rtol=0)
    assert kind.weights_sha256 == weights_of(module)
    with torch.no_grad():
        module.first.weight[0, 0] += 1  # type: ignore[union-attr, index, operator]
    assert kind.weights_sha256 != weights_of(module)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("no_such_name", 'has no "no_such_name" that could be called'),
        ("not_callable", 'has no "not_callable" that could be called'),
        ("raises", "failed at calling it: RuntimeError: no weights here"),
        ("number", r"made a int; it must return a subclass of Generator, or a module .*\"size\": \[64, 64\]"),
        ("module_alone", "made a Vector; it must return"),
        ("without_latents", "latents is missing, in the order of the module's arguments"),
        ("without_size", r"size is missing.*for example: size = \[64, 64\]"),
        ("Wordless", "Wordless lacks title, spaces, default_space"),
        ("Abstract", "Abstract must define _decode, load"),
        ("Elsewhere", '"w" is none of its spaces: z'),
    ],
)
def test_what_cannot_be_opened(entry: str, said: str) -> None:
    with pytest.raises(AssetError, match=said) as caught:
        opened(entry)
    assert "tests.own_entries" in str(caught.value)


@pytest.mark.parametrize(
    "reference", ["", "tests.own_entries", "tests/own.py:make", "a.b:c.d", "os;x:y", ":make", "a:"]
)
def test_what_names_no_factory(reference: str) -> None:
    with pytest.raises(AssetError, match="names no factory; for example"):
        own.opened("python", reference)


def test_code_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        AssetError, match=r"python:no_such_package\.here:make failed at importing it: ModuleNotFoundError"
    ):
        own.opened("python", "no_such_package.here:make")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_broken_entry.py").write_text("import this is no python")
    with pytest.raises(AssetError, match="SyntaxError"):
        own.opened("python", "own_broken_entry:make")
    assert "own_broken_entry" not in sys.modules


def test_code_that_fails_later(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        AssetError, match=r"python:tests\.own_entries:Unloadable failed at loading it: KeyError: 'weight'"
    ):
        opened("Unloadable").load(CPU, torch.float32)
    with pytest.raises(AssetError, match=r"load returned a Smooth, expected `cls\(network\)`"):
        opened("Elder").load(CPU, torch.float32)
    failing = opened("Failing").load(CPU, torch.float32)
    with caplog.at_level(logging.ERROR), pytest.raises(AssetError, match="decoding: ValueError: a shape of its own"):
        failing(failing.sample((1,)))
    assert "own_entries.py" in caplog.text, "the log has the whole of it"
    hungry = opened("Hungry").load(CPU, torch.float32)
    with pytest.raises(MemoryError):  # the engine halves its lanes for that
        hungry(hungry.sample((1,)))
    with pytest.raises(AssetError, match=r"failed at decoding draws of its prior: RuntimeError.*are the shapes"):
        opened("other_shape").load(CPU, torch.float32)
