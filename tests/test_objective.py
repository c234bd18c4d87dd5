"""The one sum: what is added, what stays the same, and what hidden pixels may do."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv import spec
from latent_inv.build import Job, build_job
from latent_inv.catalogue import Catalogue
from latent_inv.device import place
from latent_inv.engine.runner import decode_rows, evaluate
from latent_inv.errors import ShapeError, SpecError, UnsupportedError
from latent_inv.images import Picture
from latent_inv.objective import Constants, sum_in_order
from latent_inv.outline import batch_key
from latent_inv.settings import Settings
from latent_inv.types import join_rows
from tests import contracts
from tests.conftest import make_picture
from tests.engine.helpers import job
from tests.toy import TOYS

CATALOGUE = Catalogue(TOYS, place("cpu"))
ALL = (spec.Pixel(weight=2.0), spec.Perceptual(weight=0.5), spec.LatentPrior(weight=0.1), spec.TotalVariation())


def built(**settings: Any) -> Job:
    return build_job(job(**settings), CATALOGUE)


def lane(made: Job, rows: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], Constants]:
    generator = made.objective.generator
    latents = generator.sample(range(seed, seed + rows), made.space, (made.picture.height, made.picture.width))
    searched = {name: latents[name] for name in made.objective.space.searched}
    trees = []
    for row in range(rows):
        fixed = {name: tensor[row : row + 1] for name, tensor in latents.items() if name not in searched}
        trees.append(made.objective.prepare(made.picture, fixed).tree())
    return searched, Constants.from_tree(join_rows(trees))


@pytest.mark.parametrize("generator", ["smooth", "toy"])
def test_the_loss_is_the_sum_of_its_terms(generator: str) -> None:
    made = built(generator=generator, losses=ALL, picture=make_picture(32, 40))
    latents, constants = lane(made, 3)
    values = made.objective(latents, constants)
    assert list(values.terms) == ["pixel", "perceptual", "latent_prior", "total_variation"]
    assert values.loss.shape == (3,)
    assert torch.equal(values.loss, sum_in_order(list(values.terms.values())))
    alone = {}
    for name, loss in zip(values.terms, ALL, strict=True):
        one = built(generator=generator, losses=(loss,), picture=make_picture(32, 40))
        alone[name] = one.objective(*lane(one, 3)).loss
        torch.testing.assert_close(values.terms[name], alone[name])


def test_the_gradient_of_each_row_is_its_own() -> None:
    made = built(losses=ALL, dtype="float64")
    latents, constants = lane(made, 3)
    contracts.gradient_is_right(lambda z: made.objective({"z": z}, constants).loss, (latents["z"],))
    together = evaluate(made.objective, latents, constants)
    for row in range(3):
        one = evaluate(
            made.objective,
            {"z": latents["z"][row : row + 1]},
            Constants.from_tree(contracts.take_row(constants.tree(), row)),
        )
        torch.testing.assert_close(one.gradient["z"][0], together.gradient["z"][row], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one.loss[0], together.loss[row], rtol=1e-9, atol=1e-12)


def test_nothing_that_comes_out_carries_a_graph() -> None:
    made = built(losses=ALL)
    found = evaluate(made.objective, *lane(made, 2))
    tensors = [found.loss, found.squared_error, found.perceptual, *found.terms.values(), *found.gradient.values()]
    assert not any(tensor.requires_grad for tensor in tensors if tensor is not None)


def test_constants_survive_cutting_and_joining() -> None:
    weight = np.ones((32, 32), np.float32)
    weight[:8] = 0
    made = built(generator="toy", losses=ALL, picture=make_picture(32, 32, weight=weight))
    _, constants = lane(made, 3)
    again = Constants.from_tree(join_rows([contracts.take_row(constants.tree(), row) for row in range(3)]))
    contracts.map_pair(lambda a, b: _must(torch.equal(a, b), a), constants.tree(), again.tree())
    contracts.leading_rows(constants.tree(), 3)


def _must(good: bool, tensor: torch.Tensor) -> torch.Tensor:
    assert good
    return tensor


def test_the_metric_is_only_computed_where_it_is_asked_for() -> None:
    plain, watched = built(), built(budget=spec.Budget(steps=1, target_lpips=0.1))
    assert plain.objective(*lane(plain, 1)).perceptual is None
    assert lane(plain, 1)[1].target.features is None
    assert watched.objective(*lane(watched, 1)).perceptual is not None


def test_a_score_is_that_of_the_picture() -> None:
    made = built(losses=ALL)
    latents, constants = lane(made, 1)
    values = made.objective(latents, constants)
    squared, perceptual = made.objective.score(values.candidate.images, made.picture)
    assert squared == pytest.approx(float(values.candidate.squared_error), rel=1e-6)
    assert perceptual == pytest.approx(float(values.candidate.perceptual), rel=1e-5)
    own = Picture(values.candidate.images[0].numpy().clip(-1, 1).copy(), None)
    assert made.objective.score(values.candidate.images, own) == pytest.approx((0, 0), abs=1e-9)


def test_a_row_is_decoded_as_it_was_scored() -> None:
    """At the width of its lane: bit-equal to the picture in the lane."""
    made = built(lane_width=4)
    latents, _ = lane(made, 4)
    images = made.objective.generator(latents)
    for row in range(4):
        assert torch.equal(decode_rows(made.objective, {"z": latents["z"][row : row + 1]}, 4)[0], images[row])


# ---- building ------------------------------------------------------------------------------------


def key_of(made: Job) -> Hashable:
    """The key of a job whose solver is named."""
    (stage,) = made.stages
    return stage.key


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"seed": 5}, True),
        ({"picture_seed": 5}, True),
        ({"solver": spec.Adam(learning_rate=0.3, warmup_steps=3)}, True),
        ({"losses": (spec.Pixel(weight=0.3, delta=2.0),)}, True),
        ({"initialiser": spec.BestOf(count=3)}, True),
        ({"steps": 7}, True),
        ({"solver": spec.Adam(schedule="constant")}, False),
        ({"solver": spec.LBFGS()}, False),
        ({"losses": (spec.Pixel(kind="l1"),)}, False),
        ({"losses": (spec.Pixel(), spec.LatentPrior())}, False),
        ({"generator": "dead"}, False),
        ({"dtype": "float64"}, False),
        ({"lane_width": 2}, False),
        ({"picture": make_picture(32, 32, weight=np.eye(32, dtype=np.float32))}, False),
        ({"budget": spec.Budget(steps=20, target_lpips=0.1)}, False),
    ],
)
def test_rows_share_a_call_if_they_differ_in_numbers_alone(changed: dict[str, Any], same: bool) -> None:
    assert (key_of(built()) == key_of(built(**changed))) is same
    hash(key_of(built(**changed)))


def test_pictures_share_a_call_if_they_are_as_large_with_their_padding() -> None:
    keys = [
        key_of(built(generator="toy", picture=make_picture(*size))) for size in ((32, 40), (31, 33), (27, 40), (32, 32))
    ]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3, "without padding, with padding, and another size"


def test_the_key_names_every_structural_setting() -> None:
    """A setting that is neither a number nor in the key would let two jobs share what they must not."""
    plain = job()
    key = batch_key(plain, plain.solver, "z", (32, 32), 1, masked=False)
    assert hash(key) == hash(batch_key(job(seed=9), plain.solver, "z", (32, 32), 1, masked=False))
    assert key != batch_key(plain, spec.LBFGS(), "z", (32, 32), 1, masked=False), "the solver of the stage"


@pytest.mark.parametrize(("priority", "width", "expected"), [("interactive", 0, 1), ("bulk", 0, 4), ("bulk", 2, 2)])
def test_the_lane_width_is_decided_by_the_priority(priority: str, width: int, expected: int) -> None:
    assert built(priority=priority, lane_width=width).width == expected


def test_what_cannot_work_is_refused_when_built() -> None:
    with pytest.raises(UnsupportedError, match=r"no gradient.*; cma_es works without"):
        built(generator="frozen")
    assert built(generator="frozen", solver=spec.CMAES()).stages[0].solver.needs == "value"
    with pytest.raises(SpecError, match="unknown space"):
        built(space="w")
    with pytest.raises(ShapeError, match="at least") as caught:
        built(generator="toy", picture=make_picture(8, 8))
    assert caught.value.field == "perceptual"


def test_every_component_can_be_built_from_its_settings() -> None:
    for table, field in ((spec.LOSSES, "losses"), (spec.INITIALISERS, "initialiser"), (spec.SOLVERS, "solver")):
        for kind in table.values():
            settings: Settings = kind()
            if kind is spec.Given:
                settings = spec.Given(latents={"z": np.zeros((1, 12), np.float32)})
            chosen: dict[str, Any] = {field: (settings,) if field == "losses" else settings}
            refused = {spec.Encoder: "train-encoder", spec.NoiseCorrelation: "maps of noise"}
            if kind in refused:
                with pytest.raises(UnsupportedError, match=refused[kind]):
                    built(**chosen)
                continue
            if kind is spec.Lifted:
                chosen |= {"generator": "layered", "space": "layer:2"}
            assert built(**chosen).starts
