"""Every rule of a setting, with its typed error; and no other exception for anything at all."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from latent_inv.errors import SpecError
from latent_inv.settings import Settings, describe_range, kind_of, numbers, setting, structure


@dataclass(frozen=True, kw_only=True)
class Sample(Settings):
    """One field of each kind."""

    rate: float = setting(0.5, above=0, below=1, unit="s", doc="Open ends.")
    share: float = setting(0.5, low=0, high=1, doc="Closed ends.")
    count: int = setting(3, low=1, high=2**63 - 1, doc="Whole.")
    limit: int | None = setting(None, low=0, high=10, optional=True, doc="May be off.")
    kind: str = setting("one", choices=("one", "three"), doc="A name.")
    label: str = setting("", doc="Any text.")
    on: bool = setting(True, doc="A switch.")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("rate", 0, "> 0 and < 1 s, found 0"),
        ("rate", 1, "< 1 s, found 1"),
        ("rate", float("nan"), "finite"),
        ("rate", float("inf"), "finite"),
        ("rate", "0.5", "must be a number > 0 and < 1 s, found str"),
        ("rate", True, "found bool"),
        ("rate", None, "found NoneType"),
        ("rate", 1j, "found complex"),
        ("rate", np.array([0.1, 0.2]), "found ndarray"),
        ("rate", 10**400, "too large"),
        ("share", -1e-9, "≥ 0 and ≤ 1, found -1e-09"),
        ("share", 1.0000001, "≤ 1"),
        ("share", -float("inf"), "finite"),
        ("count", 0, "≥ 1"),
        ("count", 2**63, "≤ 9223372036854775807, found 9223372036854775808"),
        ("count", 2.5, "whole number"),
        ("count", True, "found bool"),
        ("count", float("nan"), "finite"),
        ("limit", 11, "≤ 10"),
        ("limit", "off", "found str"),
        ("kind", "tree", 'unknown value "tree", accepted: one, three; did you mean "three"'),
        ("kind", 1, "must be text, found int"),
        ("label", b"bytes", "must be text, found bytes"),
        ("on", 1, "must be true or false, found 1"),
        ("on", "yes", "must be true or false"),
        ("on", None, "must be true or false"),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: Any, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        Sample(**{field: value})
    assert caught.value.field == field
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("rate", np.float32(0.25), 0.25),
        ("rate", Fraction(1, 4), 0.25),
        ("share", 1, 1.0),
        ("share", 0, 0.0),
        ("count", 7.0, 7),
        ("count", np.int64(7), 7),
        ("count", 2**53 + 1, 2**53 + 1),
        ("count", 2**63 - 1, 2**63 - 1),
        ("limit", None, None),
        ("limit", 0, 0),
    ],
)
def test_a_right_value_is_kept_in_the_type_of_its_field(field: str, value: Any, kept: Any) -> None:
    found = getattr(Sample(**{field: value}), field)
    assert found == kept
    assert type(found) is type(kept)


_anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.complex_numbers(),
    st.decimals(),
    st.fractions(),
    st.lists(st.integers(), max_size=2),
    st.just(np.zeros(2)),
    st.just(np.float16(np.nan)),
    st.just(object()),
    st.just(int),
    st.just(Decimal("sNaN")),
    st.sampled_from(["one", "three", 10**400, -(10**400), 2**63, 1e308]),
)


@hypothesis_settings(deadline=None, database=None, derandomize=True, max_examples=300)
@given(name=st.sampled_from([item.name for item in fields(Sample)]), value=_anything)
def test_anything_is_accepted_within_range_or_refused_with_its_name(name: str, value: Any) -> None:
    refused: SpecError | None = None
    try:
        made = Sample(**{name: value})
    except SpecError as error:
        refused = error
    if refused is not None:
        assert refused.field == name
        assert len(str(refused)) < 300
        return
    accepted = {
        "rate": lambda v: isinstance(v, float) and 0 < v < 1,
        "share": lambda v: isinstance(v, float) and 0 <= v <= 1,
        "count": lambda v: isinstance(v, int) and 1 <= v < 2**63,
        "limit": lambda v: v is None or (isinstance(v, int) and 0 <= v <= 10),
        "kind": lambda v: v in ("one", "three"),
        "label": lambda v: isinstance(v, str),
        "on": lambda v: isinstance(v, bool),
    }
    assert accepted[name](getattr(made, name))


def test_numbers_may_differ_between_rows_and_the_rest_is_structure() -> None:
    sample = Sample(rate=0.25)
    assert numbers(sample) == {"rate": 0.25, "share": 0.5, "count": 3.0}
    assert structure(sample) == ("Sample", ("limit", None), ("kind", "one"), ("label", ""), ("on", True))
    assert structure(sample) == structure(Sample(rate=0.75, count=9))
    assert structure(sample) != structure(Sample(kind="three"))
    # An optional number that is on does not have the structure of one that is off: its row has a number more.
    assert structure(sample) != structure(Sample(limit=1))
    assert set(numbers(sample)).isdisjoint(name for name, _ in structure(sample)[1:])


def test_ranges_in_words() -> None:
    words = {item.name: describe_range(item.metadata) for item in fields(Sample)}
    assert words["rate"] == " > 0 and < 1 s"
    assert words["share"] == " ≥ 0 and ≤ 1"
    assert words["label"] == ""


def test_kinds_of_fields() -> None:
    kinds = {item.name: kind_of(item) for item in fields(Sample)}
    assert kinds == {"rate": float, "share": float, "count": int, "limit": int, "kind": str, "label": str, "on": bool}


def test_a_field_without_default_must_be_given() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Must(Settings):
        """No default."""

        size: int = setting(doc="A size.", low=1)

    assert Must(size=2).size == 2
    with pytest.raises(TypeError, match="size"):
        Must()  # type: ignore[call-arg]


def test_numbers_that_decide_shapes_are_structure() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Shaped(Settings):
        rate: float = setting(0.5, doc="May differ.")
        size: int = setting(3, doc="Decides a shape.", structural=True)

    assert numbers(Shaped()) == {"rate": 0.5}
    assert structure(Shaped(rate=1)) == structure(Shaped())
    assert structure(Shaped(size=4)) != structure(Shaped())


def test_settings_are_frozen_and_equal_by_value() -> None:
    sample = Sample()
    with pytest.raises(AttributeError):
        sample.rate = 0.1  # type: ignore[misc]
    assert sample == Sample()
    assert hash(sample) == hash(Sample())
