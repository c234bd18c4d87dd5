"""What can be asked for: ranges of every setting, and requests that make no sense."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

import numpy as np
import pytest

from latent_inv import spec as specs
from latent_inv.errors import SpecError
from latent_inv.settings import Settings, kind_of, structure
from tests.conftest import make_picture

KINDS: list[type[Settings]] = [
    kind for kind in vars(specs).values() if isinstance(kind, type) and issubclass(kind, Settings) and kind != Settings
]
TABLES = {
    "losses": specs.LOSSES,
    "observation": specs.OBSERVATIONS,
    "solver": specs.SOLVERS,
    "initialiser": specs.INITIALISERS,
}
COMPONENTS = [kind for table in TABLES.values() for kind in table.values()]
NEEDED: dict[str, Any] = {"picture": make_picture(8, 8), "latents": {"z": np.zeros((1, 2), np.float32)}}


def make(kind: type[Settings], /, **values: Any) -> Any:
    """An instance, with what has no default filled in."""
    bare = [i.name for i in fields(kind) if i.default is MISSING and i.default_factory is MISSING]
    return kind(**{**{name: NEEDED[name] for name in bare}, **values})


def described() -> Iterator[Any]:
    for kind in KINDS:
        for item in fields(kind):
            if item.metadata:
                yield pytest.param(kind, item, id=f"{kind.__name__}.{item.name}")


def just_outside(item: Field[Any]) -> Iterator[float]:
    meta, whole = item.metadata, kind_of(item) is int
    if meta["low"] is not None:
        yield meta["low"] - 1 if whole else math.nextafter(meta["low"], -math.inf)
    if meta["high"] is not None:
        yield meta["high"] + 1 if whole else math.nextafter(meta["high"], math.inf)
    for key in ("above", "below"):
        if meta[key] is not None:
            yield meta[key]


def on_the_edge(item: Field[Any]) -> Iterator[float]:
    meta, whole = item.metadata, kind_of(item) is int
    yield from (meta[key] for key in ("low", "high") if meta[key] is not None)
    if meta["above"] is not None:
        yield meta["above"] + 1 if whole else math.nextafter(meta["above"], math.inf)
    if meta["below"] is not None:
        yield meta["below"] - 1 if whole else math.nextafter(meta["below"], -math.inf)


@pytest.mark.parametrize(("kind", "item"), list(described()))
class TestEverySetting:
    """Each field of each settings class gets these by being there."""

    def test_is_documented_in_a_sentence(self, kind: type[Settings], item: Field[Any]) -> None:
        assert item.metadata["doc"].endswith(".")

    def test_has_a_plain_type_and_a_number_has_ends(self, kind: type[Settings], item: Field[Any]) -> None:
        assert kind_of(item) in (int, float, str, bool)
        if kind_of(item) in (int, float):
            assert item.metadata["low"] is not None or item.metadata["above"] is not None
            assert item.metadata["high"] is not None or item.metadata["below"] is not None

    def test_refuses_what_is_just_outside_and_takes_the_edge(self, kind: type[Settings], item: Field[Any]) -> None:
        for value in just_outside(item):
            with pytest.raises(SpecError) as caught:
                make(kind, **{item.name: value})
            assert caught.value.field == item.name
        for value in on_the_edge(item):
            assert getattr(make(kind, **{item.name: value}), item.name) == value

    def test_refuses_every_other_type(self, kind: type[Settings], item: Field[Any]) -> None:
        wrong: list[Any] = [object(), [], b"x", math.nan, math.inf, -math.inf, 1j]
        wrong += [] if kind_of(item) is str else ["1"]
        wrong += [] if kind_of(item) is bool else [True]
        wrong += [] if item.metadata["optional"] else [None]
        for value in wrong:
            with pytest.raises(SpecError) as caught:
                make(kind, **{item.name: value})
            assert caught.value.field == item.name

    def test_the_default_is_accepted(self, kind: type[Settings], item: Field[Any]) -> None:
        if item.default is not MISSING:
            assert getattr(make(kind, **{item.name: item.default}), item.name) == item.default


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
class TestEveryClass:
    def test_is_documented(self, kind: type[Settings]) -> None:
        assert (kind.__doc__ or "").strip().splitlines()[0].endswith((".", "?"))
        assert not (kind.__doc__ or "").startswith(f"{kind.__name__}("), "the docstring that dataclass makes up"

    def test_takes_names_only_and_no_unknown_ones(self, kind: type[Settings]) -> None:
        with pytest.raises(TypeError):
            kind(1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="learning_rat"):
            make(kind, learning_rat=1)

    def test_crosses_a_process(self, kind: type[Settings]) -> None:
        made = make(kind)
        again = pickle.loads(pickle.dumps(made))
        assert type(again) is kind
        assert structure(again) == structure(made)

    def test_its_structure_can_be_a_key(self, kind: type[Settings]) -> None:
        assert len({structure(make(kind)), structure(make(kind))}) == 1


@pytest.mark.parametrize("kind", [kind for kind in COMPONENTS if kind is not specs.Given], ids=lambda k: k.__name__)
def test_components_are_values(kind: type[Settings]) -> None:
    assert kind() == kind()
    assert hash(kind()) == hash(kind())


def test_a_name_means_one_class() -> None:
    """But for `auto`, which leaves solver or start to the policy."""
    named = [kind for kind in COMPONENTS if kind is not specs.Auto]
    assert len(set(named)) == len(named)
    assert {name for name, table in TABLES.items() if specs.Auto in table.values()} == {"solver", "initialiser"}


# ---- whole requests ------------------------------------------------------------------------------


def job(**values: Any) -> specs.JobSpec:
    return specs.JobSpec(**{"picture": NEEDED["picture"], **values})


@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({"losses": ()}, "losses", "at least one"),
        ({"losses": []}, "losses", "at least one"),
        ({"losses": None}, "losses", "sequence of losses, found NoneType"),
        ({"losses": 5}, "losses", "found int"),
        ({"losses": "pixel"}, "losses", "found str"),
        ({"losses": (5,)}, "losses", "found int"),
        ({"losses": (specs.Adam(),)}, "losses", "found Adam"),
        ({"losses": (specs.Pixel(), specs.Pixel(kind="l1"))}, "losses", "two of one kind"),
        ({"losses": (specs.Pixel(weight=0), specs.Perceptual(weight=0))}, "losses", "weight > 0"),
        ({"solver": specs.Pixel()}, "solver", "found Pixel"),
        ({"solver": "adam"}, "solver", "found str"),
        ({"solver": (specs.Adam(),)}, "solver", "found tuple"),
        ({"observation": None}, "observation", "found NoneType"),
        ({"initialiser": specs.Adam}, "initialiser", "found type"),
        ({"budget": 200}, "budget", "must be a Budget, found int"),
        ({"reporting": None}, "reporting", "must be a Reporting, found NoneType"),
        ({"picture": None}, "picture", "found NoneType"),
        ({"picture": NEEDED["picture"].pixels}, "picture", "found ndarray"),
        ({"perceptual": "lpips"}, "perceptual", "accepted: "),
        ({"dtype": "float16"}, "dtype", 'did you mean "float64"'),
        ({"seed": -1}, "seed", "≥ 0"),
        ({"seed": 2**63}, "seed", "9223372036854775807"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(values: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        job(**values)
    assert caught.value.field == field
    assert said in caught.value.message


def test_losses_come_one_or_many() -> None:
    assert job(losses=specs.Pixel()).losses == (specs.Pixel(),)
    assert job(losses=[specs.Pixel(), specs.LatentPrior()]).losses == (specs.Pixel(), specs.LatentPrior())


def test_every_seed_is_another_one() -> None:
    """As floats, 2⁶³ − 1 and its neighbours would be one number."""
    for seed in (2**53 + 1, 2**63 - 2, 2**63 - 1):
        assert job(seed=seed).seed == seed
        assert specs.SampleSpec(seeds=(seed,)).seeds == (seed,)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((), "1 to 64"),
        (tuple(range(65)), "found 65"),
        ((-1,), "found -1"),
        ((2**63,), "found 9223372036854775808"),
        ((True,), "found True"),
        ((1.0,), "found 1.0"),
        (("1",), "found '1'"),
        ("12", "found str"),
        (7, "found int"),
        (None, "found NoneType"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(seeds: Any, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        specs.SampleSpec(seeds=seeds)
    assert caught.value.field == "seeds"
    assert said in caught.value.message


def test_seeds_come_in_any_sequence() -> None:
    for seeds in ([0, 1], range(2), np.arange(2)):
        found = specs.SampleSpec(seeds=seeds).seeds  # type: ignore[arg-type]
        assert found == (0, 1)
        assert {type(seed) for seed in found} == {int}


@pytest.mark.parametrize("kind", [specs.Given, specs.DecodeSpec])
@pytest.mark.parametrize("latents", [None, 1, "z", [1.0], {1: np.zeros(2)}])
def test_latents_are_named(kind: Any, latents: Any) -> None:
    with pytest.raises(SpecError) as caught:
        kind(latents=latents)
    assert caught.value.field == "latents"


def test_no_torch_is_needed_to_ask() -> None:
    import subprocess
    import sys

    code = (
        "import sys, latent_inv.spec, latent_inv.result, latent_inv.ask, latent_inv.engine.scheduler;"
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
