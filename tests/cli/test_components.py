"""Components as text, and texts that make no sense."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_inv import spec
from latent_inv.cli.asking import LOSS_HELP, SOLVER_HELP, START_HELP
from latent_inv.cli.components import describe, parse, parse_crop
from latent_inv.errors import SpecError
from latent_inv.settings import Settings

TABLES = {"loss": spec.LOSSES, "solver": spec.SOLVERS, "start": spec.INITIALISERS, "observation": spec.OBSERVATIONS}
ENTRIES = [pytest.param(field, name, id=name) for field, table in TABLES.items() for name in table]


@pytest.mark.parametrize(("field", "name"), ENTRIES)
def test_every_component_can_be_written(field: str, name: str) -> None:
    kind = TABLES[field][name]
    made = parse(name, TABLES[field], field)
    assert type(made) is kind
    if kind is spec.Given:
        return
    assert made == kind()
    values = {item.name: getattr(made, item.name) for item in fields(kind) if item.metadata}
    pairs = ",".join(
        f"{key}={value}" for key, value in values.items() if value is not None
    )  # an unset one is not named
    assert parse(f" {name}:{pairs} ", TABLES[field], field) == made
    assert f"{name}: " in describe(TABLES[field])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("adam:learning_rate=0.2,schedule=constant", spec.Adam(learning_rate=0.2, schedule="constant")),
        ("adam: warmup_steps = 3 , beta1=0.5", spec.Adam(warmup_steps=3, beta1=0.5)),
        ("adam:epsilon=1e-6", spec.Adam(epsilon=1e-6)),
        ("adam:", spec.Adam()),
        ("adam:,", spec.Adam()),
    ],
)
def test_settings_are_read(text: str, expected: Settings) -> None:
    assert parse(text, spec.SOLVERS, "solver") == expected


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("adm", "solver", 'did you mean "adam"'),
        ("", "solver", "accepted: adam"),
        ("adam=3", "solver", "accepted: adam"),
        ("adam:learning_rat=1", "solver.adam", 'did you mean "learning_rate"'),
        ("adam:learning_rate", "solver.adam.learning_rate", "expected learning_rate=value"),
        ("adam:learning_rate=", "solver.adam.learning_rate", "must be a number"),
        ("adam:learning_rate=fast", "solver.adam.learning_rate", 'found "fast"'),
        ("adam:learning_rate=0", "solver.adam.learning_rate", "> 0"),
        ("adam:learning_rate=nan", "solver.adam.learning_rate", "finite"),
        ("adam:learning_rate=inf", "solver.adam.learning_rate", "finite"),
        ("adam:learning_rate=1,learning_rate=2", "solver.adam.learning_rate", "twice"),
        ("adam:warmup_steps=1.5", "solver.adam.warmup_steps", "whole"),
        ("adam:schedule=cosin", "solver.adam.schedule", 'did you mean "cosine"'),
    ],
)
def test_what_makes_no_sense_is_told_with_its_path(text: str, field: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text, spec.SOLVERS, "solver")
    assert caught.value.field == field
    assert said in caught.value.message


@settings(deadline=None, database=None, derandomize=True, max_examples=200)
@given(st.text(max_size=30).map(lambda rest: f"adam:{rest}") | st.text(max_size=10))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        made: Any = parse(text, spec.SOLVERS, "solver")
    except SpecError:
        return
    assert isinstance(made, spec.Adam)


@pytest.mark.parametrize(("text", "table"), [(START_HELP, spec.INITIALISERS), (SOLVER_HELP, spec.SOLVERS)])
def test_the_help_names_what_there_is(text: str, table: dict[str, type[Settings]]) -> None:
    """Given latents have an option of their own, `--from`."""
    listed = text.removeprefix("One of ").split(" as NAME")[0].rstrip(", ")
    named = listed.split(", ")
    assert len(set(named)) == len(named)
    assert set(named) == set(table) - {"given"}


def test_the_help_of_losses_names_the_default() -> None:
    said = LOSS_HELP.partition("Default: ")[2].rstrip(".").split(" and ")
    assert tuple(parse(text, spec.LOSSES, "loss") for text in said) == spec.DEFAULT_LOSSES


def test_crops() -> None:
    assert parse_crop("1, 2,30,40") == (1, 2, 30, 40)
    for text in ("1,2,3", "1,2,3,4,5", "a,b,c,d", "1.5,2,3,4", ",,,"):
        with pytest.raises(SpecError) as caught:
            parse_crop(text)
        assert caught.value.field == "crop"
