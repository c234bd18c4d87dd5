"""Generators within a budget of memory: who goes, who never does, and that the memory is free then."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latent_inv.catalogue import Catalogue, memory_of
from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import LimitError, SpecError, StateError
from latent_inv.generators import GENERATORS
from latent_inv.generators.base import Generator, LoadProgress
from latent_inv.result import Finished, Residents
from latent_inv.spaces import LatentSpace, Normal, Part
from latent_inv.spec import Adam, Budget, DecodeSpec, JobSpec, ResidenceSpec, SampleSpec, Seeds
from latent_inv.types import Latents
from tests.conftest import make_picture

KIB = 1024
#: float32 numbers of each network: 256 KiB
NUMBERS = 64 * KIB
SIDE = 32


class Heavy(Generator):
    """A network of 256 KiB; subclasses have names of their own."""

    title, spaces = "heavy", {"z": LatentSpace({"z": Part((4,), Normal())})}
    default_space, size = "z", (SIDE, SIDE)
    weights_sha256, licence, source = "0" * 64, ("made here", "no data", "nothing"), "tests"
    made = 0

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None) -> Heavy:
        Heavy.made += 1
        network = nn.Linear(4, NUMBERS // 4, bias=False)
        return cls(network.to(device=device, dtype=dtype))

    def _decode(self, latents: Latents) -> Tensor:
        numbers: Tensor = self.network(latents["z"])
        return torch.tanh(numbers[:, : 3 * SIDE * SIDE]).reshape(-1, 3, SIDE, SIDE)


TABLE: dict[str, type[Generator]] = {name: type(name, (Heavy,), {"name": name}) for name in ("a", "b", "c", "d")}


def catalogue(budget: int | None = 600 * KIB) -> Catalogue:
    """With room for two of them."""
    return Catalogue(TABLE, place("cpu"), budget=budget)


def names(held: Catalogue) -> list[str]:
    return [one.name for one in held.loaded]


def test_the_least_recently_used_goes_first() -> None:
    held = catalogue()
    for name in ("a", "b"):
        held.load(name, "float32")
    assert [one.memory_bytes for one in held.loaded] == [256 * KIB] * 2
    held.load("a", "float32")
    held.load("c", "float32")
    assert names(held) == ["a", "c"], "b was used before a was"
    again = held.load("a", "float32")
    assert held.load("a", "float32") is again


def test_without_a_budget_all_stay() -> None:
    held = catalogue(None)
    for name in TABLE:
        held.load(name, "float32")
    assert names(held) == list(TABLE)


def test_one_in_use_never_goes() -> None:
    held = catalogue()
    held.use("job", "a")
    held.load("a", "float32")
    for name in ("b", "c", "d"):
        held.load(name, "float32")
        assert names(held) == ["a", name]
    held.use("other", "d")
    with pytest.raises(LimitError, match="others are in use") as caught:
        held.load("b", "float32")
    assert caught.value.retry_after is not None
    assert names(held) == ["a", "d"]
    held.leave("job")
    held.load("b", "float32")
    assert names(held) == ["d", "b"]


def test_what_was_refused_once_is_not_made_again_to_be_dropped() -> None:
    held = catalogue()
    for user, name in (("one", "a"), ("two", "b")):
        held.use(user, name)
        held.load(name, "float32")
    for _ in range(2):
        with pytest.raises(LimitError):
            held.load("c", "float32")
    held.leave("one")
    held.load("c", "float32")
    made = Heavy.made
    held.leave("two")
    held.use("three", "c")
    held.use("four", "b")
    with pytest.raises(LimitError):
        held.load("a", "float32")
    assert Heavy.made == made


def test_a_format_that_was_refused_does_not_shut_out_the_others() -> None:
    held = catalogue()
    held.load("a", "float32")
    with pytest.raises(LimitError, match="generator_memory_mb"):
        held.load("a", "float64")
    held.unload("a")
    held.load("a", "float32")
    assert [(one.name, one.memory_bytes) for one in held.loaded] == [("a", 256 * KIB)]


def test_nobody_goes_for_one_that_does_not_fit() -> None:
    held = catalogue()
    held.use("job", "a")
    held.load("a", "float32")
    held.load("b", "float32")
    for _ in range(2):  # before its size is known, and after
        with pytest.raises(LimitError, match="others are in use"):
            held.load("c", "float64")
        assert names(held) == ["a", "b"]


def test_one_that_never_fits_says_so() -> None:
    held = catalogue(100 * KIB)
    with pytest.raises(LimitError, match="generator_memory_mb") as caught:
        held.load("a", "float32")
    assert caught.value.retry_after is None
    assert held.loaded == ()


def test_all_formats_of_a_generator_are_one() -> None:
    held = catalogue(1000 * KIB)
    held.load("a", "float32")
    held.load("a", "float64")
    (one,) = held.loaded
    assert (one.memory_bytes, one.formats) == (768 * KIB, ("float32", "float64"))
    held.load("b", "float32")
    assert names(held) == ["b"], "there is no room for both, and b is the one that is wanted"


def test_the_memory_is_free_then() -> None:
    """Of a real generator, too, with spaces that refer to it, its rounded network and its encoder."""
    held = Catalogue(GENERATORS, place("cpu"))
    made = [held.load("faces", "float32"), held.at("faces", "float32", "bfloat16"), held.encoder("faces", "float32")]
    alive = [weakref.ref(each) for each in made]
    (one,) = held.loaded
    assert one.memory_bytes > sum(p.nbytes for p in made[0].network.parameters())  # type: ignore[union-attr]
    assert one.formats == ("bfloat16", "float32")
    del made
    assert held.unload("faces") == one.memory_bytes
    gc.collect()
    assert [each() for each in alive] == [None] * 3
    assert held.unload("faces") == 0


def test_shared_storage_counts_once() -> None:
    generator = TABLE["a"].load(torch.device("cpu"), torch.float32)
    assert memory_of([generator, generator]) == memory_of([generator]) == 256 * KIB


def test_unloading_says_what_is_wrong() -> None:
    held = catalogue()
    with pytest.raises(SpecError, match="unknown generator"):
        held.unload("e")
    held.use("job", "a")
    held.load("a", "float32")
    with pytest.raises(StateError, match="in use by 1 job;"):
        held.unload("a")
    held.use("more", "a")
    with pytest.raises(StateError, match="in use by 2 jobs;"):
        held.unload("a")


# ---- in an engine ------------------------------------------------------------------------------


def answer(engine: Engine, spec: Any) -> Any:
    engine.submit("asked", spec)
    for _ in range(1000):
        for event in engine.poll():
            if isinstance(event, Finished) and event.job_id == "asked":
                if event.error is not None:
                    raise event.error
                return event.result
    raise AssertionError("it never ended")


def job(name: str, steps: int = 100_000) -> JobSpec:
    settings: dict[str, Any] = {"solver": Adam(), "initialiser": Seeds(), "budget": Budget(steps=steps)}
    return JobSpec(picture=make_picture(SIDE, SIDE), generator=name, **settings)


def test_a_job_has_its_generator_until_it_is_over() -> None:
    engine = Engine(TABLE, place("cpu"), generator_bytes=600 * KIB)
    engine.submit("long", job("a"))
    engine.poll()
    for name in ("b", "c", "d"):
        answer(engine, SampleSpec(generator=name))
    assert names(engine.catalogue) == ["a", "d"]
    assert (engine.load.generators, engine.load.generator_bytes) == (2, 512 * KIB)
    with pytest.raises(StateError):
        answer(engine, ResidenceSpec(action="unload", generator="a"))
    engine.cancel("long")
    found = answer(engine, ResidenceSpec(action="unload", generator="a"))
    assert isinstance(found, Residents)
    assert (found.freed_bytes, found.budget_bytes) == (256 * KIB, 600 * KIB)
    assert [one.name for one in found.generators] == ["d"]


@pytest.mark.parametrize("end", ["cancelled", "refused", "failed", "done"])
def test_whoever_ends_lets_go(end: str) -> None:
    engine = Engine(TABLE, place("cpu"))
    if end == "cancelled":
        engine.submit("x", SampleSpec(generator="a"))
        engine.cancel("x")
    elif end == "refused":
        with pytest.raises(SpecError):
            engine.submit("x", SampleSpec(generator="a", space="nowhere"))
    elif end == "failed":
        latents = {"z": np.full((1, 4), np.nan, np.float32)}
        with pytest.raises(Exception, match="latents"):
            answer(engine, DecodeSpec(latents=latents, generator="a"))
    else:
        engine.submit("x", job("a", steps=2))
        while not engine.idle:
            engine.poll()
    answer(engine, ResidenceSpec(action="load", generator="a"))
    assert [(one.name, one.users) for one in engine.catalogue.loaded] == [("a", 0)]
    assert answer(engine, ResidenceSpec(action="unload", generator="a")).freed_bytes > 0


@pytest.mark.parametrize("settings", [{"action": "load"}, {"action": "unload"}, {"generator": "a"}, {"action": "x"}])
def test_what_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        ResidenceSpec(**settings)
