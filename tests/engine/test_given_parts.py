"""Fixed parts that are given as numbers: an embedding, a vector, a map of noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from latent_inv.engine.engine import Engine
from latent_inv.errors import InputError, LatentsError, SpecError
from latent_inv.result import Checkpoint, Sampled
from latent_inv.solve import run
from latent_inv.spec import JobSpec, SampleSpec
from tests.engine.helpers import drain, job, result_of, toy_engine

NOISE = np.random.default_rng(3).normal(size=(8, 8)).astype(np.float32)


@pytest.mark.parametrize("space", ["z", "layer:1"])
@pytest.mark.parametrize("given", [NOISE, NOISE[None], torch.from_numpy(NOISE), NOISE.tolist()], ids=type)
def test_an_inversion_keeps_what_is_given(given: Any, space: str) -> None:
    result = result_of(job("layered", space=space, steps=3, conditions={"noise": given}))
    assert np.array_equal(result.latents["noise"], NOISE[None])
    assert result.space == space
    assert result.settings["fixed"].keys() == {"noise"}
    drawn = result_of(job("layered", space=space, steps=3))
    assert not np.array_equal(drawn.latents["noise"], result.latents["noise"])
    assert drawn.loss != result.loss


def test_the_picture_is_made_with_it() -> None:
    engine = toy_engine()
    drawn = _sampled(engine, SampleSpec(generator="layered", seeds=(1, 2), conditions={"noise": NOISE}))  # type: ignore[arg-type]
    assert all(np.array_equal(row, NOISE) for row in drawn.latents["noise"])
    assert not np.array_equal(drawn.images[0], drawn.images[1])
    other = _sampled(engine, SampleSpec(generator="layered", seeds=(1, 2), fixed={"noise": NOISE + 1}))
    assert np.array_equal(other.latents["z"], drawn.latents["z"])
    assert not np.allclose(other.images, drawn.images)


def test_more_digits_stay() -> None:
    double = NOISE.astype(np.float64) + 1e-10
    result = result_of(job("layered", dtype="float64", steps=2, fixed={"noise": double}))
    assert np.array_equal(result.latents["noise"], double[None])


def test_what_is_given_is_part_of_the_job() -> None:
    """A checkpoint of the same job with other numbers is that of another job."""
    first, second = (job("layered", conditions={"noise": NOISE + shift}) for shift in (0, 1))
    engine = toy_engine()
    engine.submit("one", first)
    engine.poll()
    engine.checkpoint("one")
    data = next(event.data for event in engine.poll() if isinstance(event, Checkpoint))
    with pytest.raises(InputError, match="another job"):
        toy_engine().submit("two", second, data)
    other = toy_engine()
    other.submit("one", first, data)
    assert drain(other, {"one"})[0]["one"].error is None


@pytest.mark.parametrize(
    ("generator", "space", "conditions", "said"),
    [
        ("layered", "z", {"noise": NOISE[:4]}, r"\[8, 8\]"),
        ("layered", "z", {"noise": np.stack([NOISE, NOISE])}, "one row serves all, found 2"),
        ("layered", "z", {"noise": NOISE * np.nan}, "finite"),
        ("layered", "z", {"noise": np.array(["a", "b"])}, "numbers"),
        ("layered", "z", {"text": NOISE}, 'unknown condition "text"'),
        ("layered", "z", {"z": np.zeros(12)}, "is searched in this space"),
        ("toy", "code", {"class": np.array([1.0, 0, 0, 0, 0])}, "is a class; give its label or number"),
    ],
)
def test_numbers_that_cannot_be(generator: str, space: str, conditions: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        result_of(job(generator, space=space, steps=1, conditions=conditions))
    assert caught.value.field in ("conditions", *(f"conditions.{name}" for name in conditions))


def test_a_part_is_given_once_and_as_a_mapping() -> None:
    with pytest.raises(SpecError, match="twice"):
        SampleSpec(conditions={"noise": NOISE}, fixed={"noise": NOISE})  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="mapping"):
        SampleSpec(fixed=NOISE)  # type: ignore[arg-type]
    with pytest.raises(LatentsError):
        SampleSpec(conditions={"noise": [[1, 2], [3]]})  # type: ignore[arg-type]
    mixed = SampleSpec(conditions={"class": np.int64(3), "text": NOISE})  # type: ignore[arg-type]
    assert (mixed.conditions, list(mixed.fixed)) == ("class=3", ["text"])


def _sampled(engine: Engine, spec: SampleSpec | JobSpec) -> Sampled:
    found = run(engine, spec)
    assert isinstance(found, Sampled)
    return found
