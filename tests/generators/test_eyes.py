"""Painted eyes: classes that are given, fixed and searched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latent_inv import spec as specs
from latent_inv.classes import labels
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import SpecError
from latent_inv.generators import GENERATORS
from latent_inv.generators.eyes import CLASSES
from latent_inv.images import Picture
from latent_inv.result import Sampled
from latent_inv.solve import run
from tests.contracts import loaded


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(GENERATORS, place("cpu"))


def drawn(engine: Engine, seed: int, conditions: str = "") -> Sampled:
    sampled: Sampled = run(engine, specs.SampleSpec(seeds=(seed,), generator="eyes", conditions=conditions))
    return sampled


def test_the_same_eye_in_another_colour(engine: Engine) -> None:
    blue, red = drawn(engine, 3, "class=blue"), drawn(engine, 3, "class=red")
    assert np.array_equal(blue.latents["z"], red.latents["z"])
    assert blue.latents["class"].argmax() == CLASSES.index("blue")
    assert blue.images.shape == (1, 3, 128, 128)
    hue = blue.images - red.images  # channel by channel: a red eye has more red, a blue one more blue
    assert hue[0, 2].mean() > hue[0, 0].mean()


def test_a_class_by_number_is_that_by_name(engine: Engine) -> None:
    assert np.array_equal(drawn(engine, 1, "class=1").images, drawn(engine, 1, "class=blue").images)


def test_the_class_of_a_sample_is_found(engine: Engine) -> None:
    """With nothing said about it: near the latents, the class that explains the picture takes the weight."""
    sample = drawn(engine, 11, "class=green")
    picture = Picture(np.ascontiguousarray(sample.images[0]))
    near = {"z": sample.latents["z"] + 0.05, "class": np.full((1, len(CLASSES)), 1 / len(CLASSES), np.float32)}
    spec = specs.JobSpec(
        picture=picture,
        generator="eyes",
        initialiser=specs.Given(latents=near),
        solver=specs.LevenbergMarquardt(terms="pixel"),
        budget=specs.Budget(steps=15, target_psnr_db=60),
    )
    result = run(engine, spec)
    assert result.metrics.psnr_db >= 60
    assert result.labels["class"].startswith("green")
    assert result.space == "z+class"
    np.testing.assert_allclose(result.latents["class"].sum(), 1, atol=1e-5)


def test_a_class_that_is_given_stays(engine: Engine) -> None:
    picture = Picture(np.ascontiguousarray(drawn(engine, 11, "class=green").images[0]))
    spec = specs.JobSpec(
        picture=picture, generator="eyes", space="z", conditions="class=red", budget=specs.Budget(steps=2)
    )
    result = run(engine, spec)
    assert result.labels == {"class": "red"}
    assert result.latents["class"][0, CLASSES.index("red")] == 1
    assert result.settings["conditions"] == "class=red"


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ("class=violet", 'unknown class "violet", accepted: amber, blue'),
        ("class=8", 'unknown class "8"'),
        ("class=-1", 'unknown class "-1"'),
        ("colour=blue", 'unknown condition "colour", accepted: class'),
        ("z=3", 'unknown condition "z", accepted: class'),
        ("class=blue", "is searched in this space"),
        ("blue", "must be PART=LABEL"),
        ("class=blue,class=red", 'gives "class" twice'),
    ],
)
def test_conditions_that_cannot_be(engine: Engine, conditions: str, said: str) -> None:
    picture = Picture(np.zeros((3, 128, 128), np.float32))
    space = "z+class" if "searched" in said else "z"
    with pytest.raises(SpecError, match=said) as caught:
        run(engine, specs.JobSpec(picture=picture, generator="eyes", space=space, conditions=conditions))
    assert caught.value.field == "conditions"


def test_others_have_no_conditions(engine: Engine) -> None:
    with pytest.raises(SpecError, match="unknown condition"):
        run(engine, specs.SampleSpec(generator="faces", conditions="class=blue"))


def test_conditions_as_a_mapping() -> None:
    assert specs.SampleSpec(conditions={"class": "blue", "other": 3}).conditions == "class=blue,other=3"  # type: ignore[arg-type]
    for wrong in (3, None, {"class": "a,b"}, {"": "x"}):
        with pytest.raises(SpecError):
            specs.SampleSpec(conditions=wrong)  # type: ignore[arg-type]


def test_labels_say_how_sure_they_are() -> None:
    space = loaded("eyes").spaces["z+class"]
    mixed = torch.zeros(1, 8)
    mixed[0, 1], mixed[0, 3] = 0.75, 0.25
    assert labels(space, {"class": mixed}) == {"class": "blue 0.75"}
    described = GENERATORS["eyes"].info().spaces["z+class"]["class"]
    assert described["labels"] == list(CLASSES)
    assert "labels" not in GENERATORS["faces"].info().spaces["z"]["z"]
