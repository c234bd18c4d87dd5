"""Generators by name and by reference."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_inv import spec as specs
from latent_inv.catalogue import Catalogue
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import AssetError, SpecError
from latent_inv.generators import GENERATORS, Generator, GeneratorTable, open_table
from latent_inv.images import Picture
from latent_inv.result import Described, Encoded
from latent_inv.solve import run
from latent_inv.types import Latents
from tests.toy import TOYS, Smooth


class Counting:
    """A family whose references are files; says how often one was opened."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def __call__(self, reference: str, name: str) -> type[Generator]:
        self.opened.append(reference)
        if not Path(reference).exists():
            raise AssetError(f"{Path(reference).name} is not there")
        return type("Opened", (Smooth,), {"name": name, "title": Path(reference).read_text()})


@pytest.fixture
def family() -> Counting:
    return Counting()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_text("from a file")
    return path


def test_names_come_before_references(family: Counting) -> None:
    table = GeneratorTable(TOYS, {"file": family}, open_any=True)
    assert table.find("smooth") is TOYS["smooth"]
    assert list(table) == list(TOYS)
    assert family.opened == []


def test_a_reference_is_opened_once(family: Counting, file: Path) -> None:
    table = GeneratorTable(TOYS, {"file": family}, open_any=True)
    name = f"file:{file}"
    assert table.find(name).title == "from a file"
    assert table.find(name) is table.find(name)
    assert table[name].name == name
    assert family.opened == [str(file)]


def test_a_reference_is_refused_where_only_names_are_taken(family: Counting, file: Path) -> None:
    """Clients of a server must not make it open files."""
    table = GeneratorTable(TOYS, {"file": family}, {"mine": f"file:{file}"})
    with pytest.raises(SpecError, match="unknown generator") as caught:
        table.find(f"file:{file}")
    assert caught.value.field == "generator"
    assert "file:…" not in str(caught.value)
    assert family.opened == []
    assert f"file:{file}" not in table


def test_an_alias_is_listed_and_opened_by_its_name(family: Counting, file: Path) -> None:
    table = GeneratorTable(TOYS, {"file": family}, {"mine": f"file:{file}"})
    assert list(table) == [*TOYS, "mine"]
    assert len(table) == len(TOYS) + 1
    assert table.find("mine").name == "mine"
    assert table.find("mine").info().title == "from a file"


@pytest.mark.parametrize(
    ("aliases", "said"),
    [({"smooth": "file:x"}, "another generator"), ({"a": "no:x"}, "family"), ({"a": "file:"}, "family")],
)
def test_aliases_that_cannot_be(family: Counting, aliases: dict[str, str], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        GeneratorTable(TOYS, {"file": family}, aliases)


def test_an_unknown_family_is_told_what_there_is(family: Counting) -> None:
    table = GeneratorTable(TOYS, {"file": family}, open_any=True)
    for name in ("fiel:x", "file", "file:", ""):
        with pytest.raises(SpecError, match="file:…"):
            table.find(name)


def test_everything_of_the_package_is_found_in_process() -> None:
    assert all(open_table().find(name) is kind for name, kind in GENERATORS.items())


def test_one_that_is_away_hides_no_other(
    family: Counting, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = GeneratorTable(
        {"smooth": TOYS["smooth"]}, {"file": family}, {"away": f"file:{tmp_path / 'no'}", "here": f"file:{file}"}
    )
    engine = Engine(table, place("cpu"))
    described: Described = run(engine, specs.DescribeSpec())
    assert [info.name for info in described.generators] == ["smooth", "here"]
    assert "away cannot be opened: no is not there" in caplog.text
    with pytest.raises(AssetError, match="not there"):
        run(engine, specs.DescribeSpec(generator="away"))


class Seeing(Smooth):
    """Its encoder finds the mean colour, as far as it goes."""

    name = "seeing"
    has_encoder = True

    def encode(self, images: torch.Tensor) -> Latents:
        return {"z": images.mean(dim=(1, 2, 3))[:, None].expand(-1, 12) * 10}


def test_the_encoder_of_a_generator_is_a_start_like_a_trained_one() -> None:
    engine = Engine({"seeing": Seeing}, place("cpu"))
    picture = Picture(np.full((3, 32, 32), 0.25, dtype=np.float32))
    encoded: Encoded = run(engine, specs.EncodeSpec(picture=picture, generator="seeing"))
    np.testing.assert_allclose(encoded.latents["z"], np.full((1, 12), 2.5), rtol=1e-6)
    spec = specs.JobSpec(
        picture=picture,
        generator="seeing",
        initialiser=specs.Encoder(),
        solver=specs.Adam(learning_rate=1e-9),
        budget=specs.Budget(steps=1),
    )
    np.testing.assert_allclose(run(engine, spec).latents["z"], np.full((1, 12), 2.5), rtol=1e-5)
    auto = run(engine, specs.JobSpec(picture=picture, generator="seeing", budget=specs.Budget(steps=1)))
    assert any("encoder" in why for why in auto.picked["why"])


def test_an_encoder_by_hand_comes_before_that_of_the_generator(tmp_path: Path) -> None:
    catalogue = Catalogue({"seeing": Seeing}, place("cpu"), {"seeing": tmp_path / "no"})
    with pytest.raises(AssetError):
        catalogue.encoder("seeing", "float32")


def test_a_server_s_aliases_reach_its_workers() -> None:
    from latent_inv.engine.worker import WorkerSettings

    settings = WorkerSettings("cpu", None, None, None, "tests.toy:TOYS", (("a", "b:c"),))
    assert pickle.loads(pickle.dumps(settings)) == settings
