"""Generators in a format with fewer digits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.func import jvp, vmap

from latent_inv import spec
from latent_inv.build import build_job
from latent_inv.catalogue import Catalogue
from latent_inv.device import Placement, place
from latent_inv.engine.engine import Engine
from latent_inv.generators import GENERATORS
from latent_inv.images import Picture
from latent_inv.solve import run
from latent_inv.spec import Budget, JobSpec
from tests.contracts import loaded
from tests.toy import TOYS


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the processor were quick at it, which is of no matter for what comes out."""
    monkeypatch.setattr("latent_inv.device._computes_in_bfloat16", lambda: True)


def test_it_makes_nearly_the_same_pictures_and_derivatives() -> None:
    faces = loaded("faces")
    rounded = faces.rounded(torch.bfloat16)
    z = torch.randn(2, 100, generator=torch.Generator().manual_seed(1))
    exact, near = faces({"z": z}), rounded({"z": z})
    assert near.dtype == exact.dtype
    assert 0 < (near - exact).square().mean().sqrt() < 0.03
    directions = torch.eye(100)[:10]

    def columns(decode: Any) -> torch.Tensor:
        return vmap(lambda v: jvp(lambda x: decode({"z": x}), (z[:1],), (v[None],))[1][0])(directions)

    exact, near = columns(faces), columns(rounded)
    assert 0 < (near - exact).norm() / exact.norm() < 0.15


def test_the_generator_itself_stays_as_it_is() -> None:
    faces = loaded("faces")
    before = {name: tensor.clone() for name, tensor in faces.network.state_dict().items()}
    faces.rounded(torch.bfloat16)
    assert faces.dtype == torch.float32
    for name, tensor in faces.network.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.usefixtures("bfloat16")
def test_it_is_taken_where_it_is_quick_and_allowed() -> None:
    catalogue = Catalogue({**GENERATORS, **TOYS}, place("cpu"))
    assert catalogue.rounded("faces", "float32") is catalogue.rounded("faces", "float32") is not None
    assert catalogue.rounded("faces", "float64") is None, "who asks for many digits gets them"
    assert catalogue.rounded("smooth", "float32") is None, "it does not say that it may be"
    assert Placement("cuda", None, 4).rounded is None
    picture = Picture(loaded("faces")({"z": torch.zeros(1, 100) + 0.1})[0].numpy())
    asked = JobSpec(picture=picture, generator="faces", solver=spec.LevenbergMarquardt())
    assert build_job(asked, catalogue).objective.rounded is not None
    exact = replace(asked, solver=spec.LevenbergMarquardt(jacobian="full"))
    assert build_job(exact, catalogue).objective.rounded is None


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("seed", [0, 1])
def test_latents_are_found_exactly_with_its_jacobians(seed: int) -> None:
    engine = Engine(GENERATORS, place("cpu"))
    picture = Picture(
        loaded("faces")({"z": torch.randn(1, 100, generator=torch.Generator().manual_seed(seed))})[0].numpy()
    )
    result: Any = run(engine, JobSpec(picture=picture, generator="faces", budget=Budget(steps=40)))
    assert result.metrics.psnr_db > 100
