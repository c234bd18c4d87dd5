"""What every initialiser promises; a new one is tested by being in the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from latent_inv import spec
from latent_inv.errors import InputError, LatentsError, UnsupportedError
from latent_inv.initialisers import INITIALISERS
from latent_inv.seeding import stream
from latent_inv.settings import Settings
from latent_inv.spaces import LatentSpace
from tests.toy import Smooth, Toy

SPACES = {
    "smooth": (Smooth.spaces["z"], (32, 32)),
    "toy, class fixed": (Toy.spaces["code"], (16, 24)),
    "toy, class searched": (Toy.spaces["code+class"], (16, 24)),
}
KINDS = list(INITIALISERS)


def settings_of(kind: type[Settings], space: LatentSpace, size: tuple[int, int]) -> Settings:
    if kind is spec.Given:
        drawn = space.sample(size, stream(9, "given"))
        return spec.Given(latents={name: drawn[name].numpy() for name in space.searched})
    return kind()


def starts(
    settings: Settings, space: LatentSpace, size: tuple[int, int], seed: int = 3, *, encoder: bool = True
) -> list[dict[str, Any]]:
    """With a stand-in for the encoder: it answers with a draw of its own, moved by what it was asked."""

    def encode(passes: int, fixed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert set(fixed) == set(space.parts) - set(space.searched)
        drawn = space.sample(size, stream(77, "encoded", passes))
        return {name: drawn[name] for name in space.searched}

    initialiser = INITIALISERS[type(settings)](settings)
    return initialiser.starts(space, size, lambda row: stream(seed, "start", row), encode if encoder else None)


@pytest.mark.parametrize("where", SPACES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
class TestEveryInitialiser:
    def test_each_start_has_all_parts_and_one_row(self, kind: type[Settings], where: str) -> None:
        space, size = SPACES[where]
        found = starts(settings_of(kind, space, size), space, size)
        assert len(found) == getattr(settings_of(kind, space, size), "count", 1)
        for start in found:
            assert start.keys() == space.parts.keys()
            space.check(start, size)
            for name, tensor in start.items():
                assert tensor.shape[0] == 1
                # Given latents stay exact until the job rounds them to its own format.
                assert tensor.dtype in (torch.float32, torch.float64)
                assert torch.isfinite(tensor).all()
                torch.testing.assert_close(space.parts[name].constraint(tensor), tensor)

    def test_a_start_belongs_to_its_seed(self, kind: type[Settings], where: str) -> None:
        space, size = SPACES[where]
        first = starts(settings_of(kind, space, size), space, size)
        torch.manual_seed(5)
        again = starts(settings_of(kind, space, size), space, size)
        assert all(torch.equal(a[name], b[name]) for a, b in zip(first, again, strict=True) for name in a)

    def test_a_row_does_not_depend_on_how_many_there_are(self, kind: type[Settings], where: str) -> None:
        space, size = SPACES[where]
        if "count" not in {item for item in vars(kind()) if kind is not spec.Given}:
            pytest.skip("has no count")
        few, many = (starts(kind(count=count), space, size) for count in (2, 5))
        assert (len(few), len(many)) == (2, 5)
        for row in range(2):
            assert all(torch.equal(few[row][name], many[row][name]) for name in space.parts)
        searched = space.searched[0]
        assert len({tuple(start[searched].flatten().tolist()) for start in many}) == 5, "rows that are the same"

    def test_rungs_go_on_with_fewer_and_fewer(self, kind: type[Settings], where: str) -> None:
        space, size = SPACES[where]
        rungs = INITIALISERS[kind](settings_of(kind, space, size)).rungs
        steps, kept = [step for step, _ in rungs], [keep for _, keep in rungs]
        assert steps == sorted(set(steps))
        assert kept == sorted(kept, reverse=True)
        assert all(keep >= 1 for keep in kept)
        assert all(step >= 0 for step in steps)

    def test_starts_are_not_views_of_one_another(self, kind: type[Settings], where: str) -> None:
        space, size = SPACES[where]
        found = starts(settings_of(kind, space, size), space, size)
        kept = {name: tensor.clone() for name, tensor in found[-1].items()}
        for tensor in found[0].values():
            tensor.add_(1)
        if len(found) > 1:
            assert all(torch.equal(found[-1][name], kept[name]) for name in kept)
        assert all(
            torch.equal(a[name], b[name])
            for a, b in zip(starts(settings_of(kind, space, size), space, size)[-1:], [kept], strict=True)
            for name in a
        ), "changing a start changed where the next job starts"


def test_seeds_and_best_of_draw_the_same_rows() -> None:
    space, size = SPACES["smooth"]
    for a, b in zip(starts(spec.Seeds(count=4), space, size), starts(spec.BestOf(count=4), space, size), strict=True):
        assert torch.equal(a["z"], b["z"])


def test_best_of_goes_on_with_one_at_once() -> None:
    assert INITIALISERS[spec.BestOf](spec.BestOf()).rungs == ((0, 1),)
    assert INITIALISERS[spec.Seeds](spec.Seeds(count=9)).rungs == ()


def test_an_encoder_is_asked_for_so_many_passes_and_fixed_parts_are_drawn() -> None:
    space, size = SPACES["toy, class fixed"]
    for passes in (1, 5):
        (start,) = starts(spec.Encoder(passes=passes), space, size)
        assert torch.equal(start["code"], space.sample(size, stream(77, "encoded", passes))["code"])
        assert torch.equal(start["class"], space.sample(size, stream(3, "start", 0))["class"])


def test_further_starts_of_an_encoder_lie_around_its_answer() -> None:
    space, size = SPACES["smooth"]
    (alone,) = starts(spec.Encoder(), space, size)
    for spread in (0.1, 2.0):
        first, *others = starts(spec.Encoder(count=64, spread=spread), space, size)
        assert torch.equal(first["z"], alone["z"])
        off = torch.cat([start["z"] - first["z"] for start in others])
        assert off.std() == pytest.approx(spread, rel=0.1)
        assert abs(float(off.mean())) < 0.15 * spread
    space, size = SPACES["toy, class fixed"]
    found, draws = starts(spec.Encoder(count=4), space, size), starts(spec.Seeds(count=4), space, size)
    for start, draw in zip(found, draws, strict=True):
        assert torch.equal(start["class"], draw["class"]), "each row draws what is not searched"


@pytest.mark.parametrize("where", SPACES)
def test_without_an_encoder_its_start_is_refused(where: str) -> None:
    space, size = SPACES[where]
    with pytest.raises(UnsupportedError, match="latent-inv train-encoder"):
        starts(spec.Encoder(), space, size, encoder=False)


def test_one_start_of_halving_is_the_encoders_where_there_is_one() -> None:
    space, size = SPACES["smooth"]
    (encoded,) = starts(spec.Encoder(), space, size)
    with_one, without = (starts(spec.Halving(count=4), space, size, encoder=has) for has in (True, False))
    draws = starts(spec.Seeds(count=4), space, size)
    assert torch.equal(with_one[0]["z"], encoded["z"])
    for found, first in ((with_one, 1), (without, 0)):
        for row in range(first, 4):
            assert torch.equal(found[row]["z"], draws[row]["z"])


@pytest.mark.parametrize(
    ("count", "rung", "expected"),
    [
        (8, 10, ((10, 4), (20, 2), (40, 1))),
        (5, 3, ((3, 3), (6, 2), (12, 1))),
        (2, 7, ((7, 1),)),
        (4, 0, ((0, 2), (1, 1))),
        (8, 0, ((0, 4), (1, 2), (2, 1))),
    ],
)
def test_halving_drops_the_worse_half_at_each_rung(count: int, rung: int, expected: Any) -> None:
    assert INITIALISERS[spec.Halving](spec.Halving(count=count, rung=rung)).rungs == expected


def test_the_mean_is_of_searched_parts_and_a_draw_of_the_rest() -> None:
    space, size = SPACES["toy, class fixed"]
    (start,) = starts(spec.PriorMean(), space, size)
    assert (start["code"] == 0).all()
    assert sorted(start["class"][0].tolist()) == [0, 0, 0, 0, 1]
    space, size = SPACES["toy, class searched"]
    (start,) = starts(spec.PriorMean(), space, size)
    torch.testing.assert_close(start["class"], torch.full((1, 5), 0.2))


def given(latents: Any, where: str = "smooth") -> list[dict[str, Any]]:
    space, size = SPACES[where]
    return starts(spec.Given(latents=latents), space, size)


def test_given_latents_are_taken_row_by_row() -> None:
    z = np.arange(36, dtype=np.float64).reshape(3, 12)
    found = given({"z": z})
    assert [start["z"].tolist() for start in found] == [[row.tolist()] for row in z]
    assert len(given({"z": z[0]})) == 1
    assert len(given({"": z})) == 3, "one array without a name, where there is one part"


def test_given_latents_are_copied() -> None:
    z = np.zeros((1, 12), np.float32)
    (start,) = given({"z": z})
    start["z"].add_(1)
    assert (z == 0).all()


def test_parts_that_stay_are_given_or_drawn() -> None:
    code = np.full((2, 4, 2, 3), 0.5, np.float32)
    drawn = given({"code": code}, "toy, class fixed")
    assert all(sorted(start["class"][0].tolist()) == [0, 0, 0, 0, 1] for start in drawn)
    classes = np.eye(5, dtype=np.float32)[[1, 3]]
    found = given({"code": code, "class": classes}, "toy, class fixed")
    assert [start["class"].argmax().item() for start in found] == [1, 3]


@pytest.mark.parametrize(
    ("latents", "where", "said"),
    [
        ({}, "smooth", "missing z"),
        ({"w": np.zeros((1, 12))}, "smooth", "unknown"),
        ({"z": np.zeros((1, 13))}, "smooth", r"\[1, 13\]"),
        ({"z": np.zeros((0, 12))}, "smooth", r"\[0, 12\]"),
        ({"z": np.full((1, 12), np.nan)}, "smooth", "finite"),
        ({"z": np.array(["a"] * 12)}, "smooth", "numbers"),
        ({"code": np.zeros((1, 4, 2, 3))}, "toy, class searched", "missing class"),
        ({"code": np.zeros((1, 4, 3, 2))}, "toy, class fixed", "transpose"),
        ({"code": np.zeros((2, 4, 2, 3)), "class": np.zeros((1, 5))}, "toy, class fixed", "same number of rows"),
    ],
)
def test_latents_that_do_not_fit_are_refused(latents: Any, where: str, said: str) -> None:
    with pytest.raises(LatentsError, match=said) as caught:
        given(latents, where)
    assert isinstance(caught.value, InputError)
    assert caught.value.field.startswith("latents")
