"""Encoders at work: passes, hidden pixels, and as the start of a job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv.engine.engine import Engine
from latent_inv.errors import AssetError, InputError, UnsupportedError
from latent_inv.images import Picture
from latent_inv.result import Checkpoint, Encoded, Outcome
from latent_inv.spec import Auto, Encoder, EncodeSpec, Halving, Reporting, Seeds
from tests.conftest import make_picture
from tests.encoders.helpers import encoder_file, encoder_of
from tests.engine.helpers import drain, job, result_of, toy_engine
from tests.engine.test_laws import same

SIZES = {"smooth": (32, 32), "map": (24, 40), "mixed": (32, 16)}


def pictures(where: str, rows: int = 4) -> torch.Tensor:
    return torch.stack([torch.from_numpy(make_picture(*SIZES[where], seed).pixels) for seed in range(rows)])


def fixed_of(where: str, rows: int = 4) -> dict[str, torch.Tensor]:
    return {"class": torch.eye(5)[:rows]} if where == "map" else {}


def hidden(rows: int = 32, columns: int = 32) -> np.ndarray:
    weight = np.ones((rows, columns), np.float32)
    weight[:, : columns // 3] = 0
    weight[-4:] = 0.5
    return weight


# ---- passes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", SIZES)
@pytest.mark.parametrize("masked", [False, True])
def test_the_pass_whose_picture_is_nearest_is_kept(where: str, masked: bool) -> None:
    """Row by row, so more passes are never worse; here some rows get better with them and some do not."""
    encoder, images, fixed = encoder_of(where, SIZES[where], strength=0.02), pictures(where, 4), fixed_of(where)
    weight = torch.from_numpy(hidden(*SIZES[where])).expand(4, 1, -1, -1) if masked else None
    errors = []
    for passes in (1, 2, 4):
        found = encoder(images, fixed, weight=weight, passes=passes)
        assert found.keys() == set(encoder.space.searched)
        for name, tensor in found.items():
            torch.testing.assert_close(encoder.space.parts[name].constraint(tensor), tensor)
        with torch.no_grad():
            away = (encoder.generator({**fixed, **found}) - images).square()
        errors.append((away if weight is None else away * weight).mean(dim=(1, 2, 3)))
    assert (errors[1] <= errors[0] + 1e-6).all()
    assert (errors[2] <= errors[1] + 1e-6).all()


def test_rows_of_a_batch_are_apart() -> None:
    encoder, images = encoder_of("smooth", (32, 32)), pictures("smooth")
    together = encoder(images, passes=3)["z"]
    other = encoder(torch.cat([images[:1], -images[1:]]), passes=3)["z"]
    assert torch.equal(together[0], other[0])
    assert not torch.equal(together[1:], other[1:])


def test_hidden_pixels_are_not_looked_at() -> None:
    encoder, images = encoder_of("smooth", (32, 32)), pictures("smooth", 1)
    weight = torch.from_numpy(hidden())[None, None]
    changed = torch.where(weight > 0, images, torch.full_like(images, 0.9))
    assert torch.equal(encoder(images, weight=weight, passes=3)["z"], encoder(changed, weight=weight, passes=3)["z"])
    assert not torch.equal(encoder(images, passes=3)["z"], encoder(changed, passes=3)["z"])


def test_hidden_pixels_are_grey_in_picture_and_reconstruction(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the holes of the training are; a difference there would be of nothing that is known."""
    encoder, weight = encoder_of("smooth", (32, 32)), torch.from_numpy(hidden())[None, None]
    honest, seen = encoder.network.forward, []

    def forward(images: Any, reconstructions: Any, latents: Any) -> Any:
        seen.extend([images] if reconstructions is None else [images, reconstructions])
        return honest(images, reconstructions, latents)

    monkeypatch.setattr(encoder.network, "forward", forward)
    encoder(pictures("smooth", 1), weight=weight, passes=2)
    assert len(seen) == 3
    for image in seen:
        assert (image[:, :, weight[0, 0] == 0] == 0).all()
        assert (image[:, :, weight[0, 0] > 0] != 0).any()


# ---- the start of a job ------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return toy_engine(encoders={"smooth": encoder_file(tmp_path)})


def encoded(picture: Picture, passes: int) -> np.ndarray:
    """What the file says, asked directly."""
    encoder = encoder_of("smooth", (32, 32))
    network = encoder.network
    network.load_state_dict({name: tensor.half().float() for name, tensor in network.state_dict().items()})
    weight = None if picture.weight is None else torch.from_numpy(picture.weight)[None, None]
    return encoder(torch.from_numpy(picture.pixels)[None], weight=weight, passes=passes)["z"].numpy()


@pytest.mark.parametrize("weight", [None, hidden()], ids=["whole", "masked"])
@pytest.mark.parametrize("passes", [1, 3])
def test_a_job_starts_where_the_encoder_says(engine: Engine, passes: int, weight: np.ndarray | None) -> None:
    picture = make_picture(32, 32, weight=weight)
    result = result_of(job(picture=picture, initialiser=Encoder(passes=passes), steps=0), engine)
    assert np.array_equal(result.latents["z"], encoded(picture, passes))
    assert result.picked["start"] == {"type": "Encoder", "passes": passes, "count": 1, "spread": 0.6}


def test_hidden_pixels_have_no_influence_on_a_start(engine: Engine) -> None:
    picture = make_picture(32, 32, weight=hidden())
    pixels = np.where(hidden() > 0, picture.pixels, np.float32(-0.9))
    starts = [
        result_of(job(picture=Picture(found, weight), initialiser=Encoder(), steps=0), engine)
        for found, weight in ((picture.pixels, hidden()), (pixels, hidden()), (picture.pixels, None))
    ]
    assert same(starts[0], starts[1])
    assert not same(starts[0], starts[2])


def test_the_policy_takes_an_encoder_where_there_is_one(engine: Engine) -> None:
    asked = job(initialiser=Auto(), steps=2)
    with_one, without = result_of(asked, engine), result_of(asked)
    assert with_one.picked["start"]["type"] == "Encoder"
    assert with_one.history[0].loss == result_of(job(initialiser=Encoder(), steps=0), engine).loss
    assert without.picked["start"]["type"] == "BestOf"
    named = result_of(job(initialiser=Seeds(), steps=2), engine)
    assert same(named, result_of(job(initialiser=Seeds(), steps=2))), "what is named stays"


def test_one_row_of_halving_starts_there(engine: Engine) -> None:
    from latent_inv.build import build_job

    starts = build_job(job(initialiser=Halving(count=4)), engine.catalogue).starts
    assert np.array_equal(starts[0]["z"].numpy(), encoded(make_picture(32, 32), 3))
    draws = build_job(job(initialiser=Seeds(count=4)), engine.catalogue).starts
    assert all(torch.equal(a["z"], b["z"]) for a, b in zip(starts[1:], draws[1:], strict=True))


def test_an_encoder_works_in_other_numbers_and_sizes(tmp_path: Path) -> None:
    engine = toy_engine(encoders={"toy": encoder_file(tmp_path, "map", (64, 64))})
    result = result_of(
        job("toy", picture=make_picture(21, 35), dtype="float64", initialiser=Encoder(), steps=2), engine
    )
    assert result.latents["code"].dtype == np.float64
    assert result.latents["code"].shape == (1, 4, 3, 5)
    assert np.abs(result.latents["code"]).max() <= 1
    assert sorted(result.latents["class"][0].tolist()) == [0, 0, 0, 0, 1], "what is not searched is drawn"
    assert result.outcome is Outcome.step_limit


def test_an_encoder_is_of_one_space(tmp_path: Path) -> None:
    engine = toy_engine(encoders={"toy": encoder_file(tmp_path, "map", (32, 32))})
    other: dict[str, Any] = {"space": "code+class", "steps": 1}
    with pytest.raises(UnsupportedError, match="no encoder") as caught:
        engine.submit("one", job("toy", initialiser=Encoder(), **other))
    assert caught.value.field == "initialiser"
    assert result_of(job("toy", initialiser=Auto(), **other), engine).picked["start"]["type"] == "BestOf"


@pytest.mark.parametrize("changed", [{"generator": "dead"}, {"weights_sha256": "3" * 64}])
def test_an_encoder_of_something_else_is_refused_before_anything_is_queued(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    engine = toy_engine(encoders={"smooth": encoder_file(tmp_path, **changed)})
    with pytest.raises(AssetError, match="was trained for") as caught:
        engine.submit("one", job(initialiser=Auto()))
    assert caught.value.field == "encoder"
    assert engine.idle


def test_a_checkpoint_knows_how_its_job_was_begun(engine: Engine) -> None:
    """Left to the policy, the start depends on the encoder at hand: one row with it, eight without."""
    asked = job(initialiser=Auto(), steps=9, reporting=Reporting(checkpoint_steps=4))
    for begun, other in ((engine, toy_engine()), (toy_engine(), engine)):
        begun.submit("one", asked)
        _, events = drain(begun, {"one"})
        data = next(event.data for event in events if isinstance(event, Checkpoint))
        with pytest.raises(InputError, match="another job"):
            other.submit("again", asked, data)


def test_a_request_gets_what_the_encoder_says(engine: Engine) -> None:
    picture = make_picture(32, 32)
    engine.submit("one", EncodeSpec(picture=picture, generator="smooth"))
    answer = drain(engine, {"one"})[0]["one"].result
    assert isinstance(answer, Encoded)
    assert np.array_equal(answer.latents["z"], encoded(picture, 3))
    bare = toy_engine()
    with pytest.raises(UnsupportedError, match="no encoder"):
        bare.submit("one", replace(EncodeSpec(picture=picture), generator="smooth"))
