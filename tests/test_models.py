"""Weights on this machine, in the library and on the command line; a copy of a small real file stands in for all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from latent_inv.asset_table import ASSETS
from latent_inv.assets import fetch
from latent_inv.cli import app
from latent_inv.errors import AssetError, SpecError, StateError
from latent_inv.models import list_models, model, pull, remove, verify

NAME = "faces"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one file, and no network."""
    real = fetch(NAME)
    folder = tmp_path / "cache"
    folder.mkdir()
    shutil.copy(real, folder / ASSETS[NAME].cache_name)
    monkeypatch.setenv("LATENT_INV_CACHE", str(folder))
    monkeypatch.setenv("LATENT_INV_OFFLINE", "1")
    return folder


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def spoil(cache: Path) -> None:
    file = cache / ASSETS[NAME].cache_name
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)


def test_all_are_listed_with_their_state(cache: Path) -> None:
    found = {item.name: item for item in list_models()}
    assert list(found) == list(ASSETS)
    assert found[NAME].state == "here"
    assert found[NAME].kind == "wheel"
    assert found["faces-encoder"].kind == "package"
    assert found["faces-encoder"].state == "here"
    assert found["vgg16"].kind == "torch"
    assert len(found[NAME].licence) == 3


def test_what_was_pulled_needs_no_network(cache: Path) -> None:
    assert pull(NAME).path == cache / ASSETS[NAME].cache_name
    with pytest.raises(AssetError, match="network is switched off"):
        pull("stlpips-vgg")


def test_removed_and_asked_for_again(cache: Path) -> None:
    assert remove(NAME) == ASSETS[NAME].size
    assert model(NAME).state == "missing"
    assert remove(NAME) == 0
    with pytest.raises(AssetError, match=r"faces is not here; `latent-inv models pull faces` brings it"):
        verify(NAME)
    with pytest.raises(AssetError, match="network is switched off"):
        pull(NAME)


def test_what_belongs_to_a_package_stays(cache: Path) -> None:
    path = model("faces-encoder").path
    with pytest.raises(StateError, match="belongs to an installed package"):
        remove("faces-encoder")
    assert path is not None
    assert path.exists()


def test_verifying_reads_the_file_whatever_was_remembered(cache: Path) -> None:
    import os

    file = cache / ASSETS[NAME].cache_name
    assert verify(NAME).path == file
    status = file.stat()
    spoil(cache)
    # As if nothing had happened: size and time are what is remembered.
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert model(NAME).state == "here"
    with pytest.raises(AssetError, match=f"has SHA-256 .*, expected {ASSETS[NAME].sha256}; .*pull faces. mends it"):
        verify(NAME)


def test_a_damaged_file_is_said_to_be_and_can_be_removed(cache: Path) -> None:
    spoil(cache)
    assert model(NAME).state == "damaged"
    assert remove(NAME) == ASSETS[NAME].size


@pytest.mark.parametrize("function", [model, pull, verify, remove])
def test_unknown_names(function: Any, cache: Path) -> None:
    with pytest.raises(SpecError, match='did you mean "faces"'):
        function("facs")


def test_the_commands(cache: Path) -> None:
    listed = command("list")
    assert listed.exit_code == 0
    assert "generator faces" in listed.output.replace("\n", " ")
    said = json.loads(command("list", "--json").output)
    assert [item["name"] for item in said] == list(ASSETS)
    assert {item["name"]: item["state"] for item in said}[NAME] == "here"
    shown = command("info", NAME)
    assert ASSETS[NAME].sha256 in shown.output
    assert "DigiFace" in shown.output
    assert json.loads(command("info", NAME, "--json").output)[0]["kind"] == "wheel"
    assert "faces is here, 14.3 MB" in command("pull", NAME, "--quiet").output
    assert command("verify", NAME).output == "faces: as it should be\n"
    spoil(cache)
    spoilt = command("verify", NAME)
    assert spoilt.exit_code == 3
    assert "has SHA-256" in spoilt.output
    assert json.loads(command("verify", NAME, "--json").output)[0]["whole"] is False
    assert command("remove", NAME).output == "faces: 14.3 MB freed\n"
    assert command("remove", NAME).output == "faces was not here\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("pull",), 2, "give names, or --all"),
        (("pull", "faces", "--all"), 2, "give names, or --all"),
        (("pull", "stlpips-vgg", "--quiet"), 3, "network is switched off"),
        (("info", "nothing"), 2, "unknown asset"),
        (("remove", "faces-encoder"), 1, "belongs to an installed package"),
    ],
)
def test_commands_that_fail(cache: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = command(*arguments)
    assert result.exit_code == code
    assert said in result.output.replace("\n", " ")
