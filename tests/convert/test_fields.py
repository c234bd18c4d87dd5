"""The messages and the dataclasses say the same: names, choices, ranges, defaults."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from latent_inv import result as results
from latent_inv import spec as specs
from latent_inv.convert.requests import COMPONENTS
from latent_inv.convert.settings import enum_name
from latent_inv.convert.tensors import RANGES
from latent_inv.images.arrays import RANGES as PICTURE_RANGES
from latent_inv.settings import Settings
from latent_inv.v1 import components_pb2, data_pb2, generator_service_pb2, job_pb2
from tests.convert.protos import comments, number, stated_default, stated_range

COMMENTS = comments()

#: field of the wire's oneof → (its message, the table that it must match)
TABLES = {
    "Loss": (components_pb2.Loss, specs.LOSSES),
    "Observation": (components_pb2.Observation, specs.OBSERVATIONS),
    "Solver": (components_pb2.Solver, specs.SOLVERS),
    "Initialiser": (components_pb2.Initialiser, specs.INITIALISERS),
}
PAIRS: list[tuple[Any, Any]] = [
    *((getattr(components_pb2, kind.__name__), kind) for _, table in TABLES.values() for kind in table.values()),
    (components_pb2.Budget, specs.Budget),
    (components_pb2.Reporting, specs.Reporting),
    (job_pb2.JobSpec, specs.JobSpec),
    (generator_service_pb2.SampleRequest, specs.SampleSpec),
    (generator_service_pb2.EncodeRequest, specs.EncodeSpec),
    (generator_service_pb2.DecodeRequest, specs.DecodeSpec),
    (job_pb2.Metrics, results.Metrics),
    (job_pb2.Step, results.Step),
    (job_pb2.Progress, results.Progress),
    (job_pb2.JobResult, results.JobResult),
    (generator_service_pb2.Generator, results.GeneratorInfo),
    (generator_service_pb2.SampleResponse, results.Sampled),
    (generator_service_pb2.EncodeResponse, results.Encoded),
    (generator_service_pb2.DecodeResponse, results.Decoded),
]
#: name in the library → its names on the wire, where the two differ; () for what does not travel in this message
DIFFERENT: dict[type, dict[str, tuple[str, ...]]] = {
    specs.JobSpec: {"picture": ("image", "weight")},
    specs.EncodeSpec: {"picture": ("image",)},
    results.Progress: {"job_id": (), "sequence": ()},
    results.JobResult: {
        "target": ("target", "target_weight"),
        "settings": ("settings_json",),
        "picked": ("picked_json",),
        "files": (),
    },
    results.GeneratorInfo: {"size": ("height", "width")},
}


def names(kind: Any) -> set[str]:
    return {item.name for item in dataclasses.fields(kind)}


@pytest.mark.parametrize(("message", "kind"), PAIRS, ids=lambda item: item.__name__)
def test_fields_have_the_same_names(message: Any, kind: Any) -> None:
    different = DIFFERENT.get(kind, {})
    assert different.keys() <= names(kind)
    expected = (names(kind) - different.keys()) | {name for wire in different.values() for name in wire}
    assert set(message.DESCRIPTOR.fields_by_name) == expected


@pytest.mark.parametrize("name", TABLES)
def test_a_oneof_has_the_entries_of_its_table(name: str) -> None:
    message, table = TABLES[name]
    (oneof,) = message.DESCRIPTOR.oneofs
    assert oneof.name == "kind"
    assert {field.name: field.message_type.name for field in oneof.fields} == {
        key: kind.__name__ for key, kind in table.items()
    }


def test_every_component_of_a_job_is_read() -> None:
    oneofs = {
        field.name
        for field in job_pb2.JobSpec.DESCRIPTOR.fields
        if field.message_type and field.message_type.name in TABLES
    }
    assert oneofs == {*COMPONENTS, "losses"}


# ---- settings ----------------------------------------------------------------------------------

SETTINGS = [
    (message, kind, item)
    for message, kind in PAIRS
    if issubclass(kind, Settings)
    for item in dataclasses.fields(kind)
    if item.metadata
]


def named(message: Any, kind: Any, item: Any) -> str:
    return f"{message.DESCRIPTOR.name}.{item.name}"


@pytest.mark.parametrize(("message", "kind", "item"), SETTINGS, ids=[named(*entry) for entry in SETTINGS])
def test_a_setting_is_the_same_on_the_wire(message: Any, kind: Any, item: Any) -> None:
    field = message.DESCRIPTOR.fields_by_name[item.name]
    comment = COMMENTS[named(message, kind, item)]
    meta = item.metadata
    expected = {key: meta[key] for key in ("low", "high", "above", "below") if meta[key] is not None}
    assert stated_range(comment) == expected, comment

    if field.enum_type is not None:
        on_wire = {enum_name(field.enum_type, value, item.name) for value in field.enum_type.values_by_number} - {""}
        if field.enum_type.name == "Dtype":  # shared with tensors, which have more formats
            assert all("tensors only" in COMMENTS[f"DTYPE_{name.upper()}"] for name in on_wire - set(meta["choices"]))
            on_wire &= set(meta["choices"])
        assert on_wire == set(meta["choices"])
        unset = COMMENTS[field.enum_type.values_by_number[0].name].lower()
        assert unset.endswith(f": {item.default}."), unset
        return
    if item.default is None:
        # Nothing, or words: what stands for it is not a value of the field.
        assert field.has_presence
        assert stated_default(comment) is None
    elif field.has_presence or item.default:
        text = stated_default(comment)
        assert text is not None, f"the comment must say the default: {comment}"
        assert (text if isinstance(item.default, str) else number(text)) == item.default


def test_numbers_that_may_be_zero_know_whether_they_are_set() -> None:
    for message, kind, item in SETTINGS:
        field = message.DESCRIPTOR.fields_by_name[item.name]
        if field.type in (field.TYPE_DOUBLE, field.TYPE_INT64, field.TYPE_INT32):
            assert field.has_presence or item.default == 0, f"{named(message, kind, item)}: unset and 0 are the same"


def test_ranges_of_pictures_are_those_of_the_loader() -> None:
    assert set(RANGES.values()) == set(PICTURE_RANGES)
    on_wire = {enum_name(data_pb2.ValueRange.DESCRIPTOR, n, "") for n in data_pb2.ValueRange.values()}
    assert on_wire == {"", *RANGES}


def test_outcomes_have_the_same_names_and_sentences() -> None:
    on_wire = {enum_name(job_pb2.Outcome.DESCRIPTOR, n, ""): n for n in job_pb2.Outcome.values() if n}
    assert set(on_wire) == {outcome.name for outcome in results.Outcome}
    for outcome in results.Outcome:
        said = COMMENTS[job_pb2.Outcome.Name(on_wire[outcome.name])].rstrip(".")
        assert outcome.value.startswith(said), outcome


def test_every_field_of_every_message_has_a_comment() -> None:
    assert len(COMMENTS) > 150
    assert [name for name, text in COMMENTS.items() if not text] == []
