"""Specs to messages and back, and every wrong value refused with the path of its field."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latent_inv import convert
from latent_inv import spec as specs
from latent_inv.errors import ImageError, LatentInvError, LimitError, ShapeError, SpecError, UnsupportedError
from latent_inv.images import Limits, encode_png
from latent_inv.settings import Settings, kind_of
from latent_inv.spec_requests import PRECISIONS
from latent_inv.v1 import data_pb2, generator_service_pb2, job_pb2
from tests.conftest import make_picture

PNG = encode_png(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))
IMAGE = data_pb2.Image(encoded=PNG)


def over_the_wire(spec: specs.JobSpec, **more: Any) -> specs.JobSpec:
    message = convert.job_message(spec, IMAGE, **more)
    return convert.job_spec(job_pb2.JobSpec.FromString(message.SerializeToString()))


def without_picture(spec: Any) -> dict[str, Any]:
    return {item.name: getattr(spec, item.name) for item in dataclasses.fields(spec) if item.name != "picture"}


# ---- round trips -------------------------------------------------------------------------------


def numbers(item: dataclasses.Field[Any]) -> st.SearchStrategy[Any]:
    meta = item.metadata
    low = meta["low"] if meta["low"] is not None else meta["above"]
    high = meta["high"] if meta["high"] is not None else meta["below"]
    if kind_of(item) is int:
        return st.integers(low, high)
    if item.name == "weight":
        return st.just(0.0) | st.floats(1e-6, high)  # smaller ones would vanish in float32, and are refused
    return st.floats(low, high, exclude_min=meta["above"] is not None, exclude_max=meta["below"] is not None)


#: number formats that go together
FORMATS = [{"dtype": "float64", "precision": "auto"}]
FORMATS += [{"dtype": "float32", "precision": precision} for precision in PRECISIONS]


def values(kind: type[Settings], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any settings of a class, from the ranges that its fields state."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for item in dataclasses.fields(kind):
        if not item.metadata:
            continue
        meta = item.metadata
        if meta["choices"]:
            value: st.SearchStrategy[Any] = st.sampled_from(meta["choices"])
        elif item.name == "conditions":
            value = st.sampled_from(["", "class=blue", "class=3,pose = left"])
        elif kind_of(item) is str:
            value = st.sampled_from(["faces", "an other-one", "w+"])
        else:
            value = numbers(item)
        fields[item.name] = st.none() | value if meta["optional"] else value
    if "precision" not in fields:
        return st.builds(kind, **{**fields, **more})
    return st.sampled_from(FORMATS).flatmap(
        lambda formats: st.builds(kind, **{**fields, **more, **{name: st.just(one) for name, one in formats.items()}})
    )


LATENTS = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4).map(lambda x: np.array([x], np.float32)),
    min_size=1,
    max_size=3,
)


def components(table: dict[str, type[Settings]]) -> list[st.SearchStrategy[Any]]:
    return [values(kind, latents=LATENTS) if kind is specs.Given else values(kind) for kind in table.values()]


JOBS = values(
    specs.JobSpec,
    picture=st.just(make_picture(8, 8)),
    crop=st.none() | st.tuples(*[st.integers(0, 2**31 - 1)] * 4),
    fixed=st.just({}) | LATENTS,
    losses=st.tuples(*components(specs.LOSSES))
    .flatmap(
        lambda losses: st.permutations(losses).flatmap(lambda p: st.integers(1, len(p)).map(lambda n: tuple(p[:n])))
    )
    .filter(lambda losses: any(loss.weight > 0 for loss in losses))
    .filter(lambda losses: all(loss.weight == 0 or loss.weight >= specs.MIN_WEIGHT for loss in losses)),
    observation=st.one_of(components(specs.OBSERVATIONS)),
    solver=st.one_of(components(specs.SOLVERS)),
    initialiser=st.one_of(components(specs.INITIALISERS)),
    budget=values(specs.Budget),
    reporting=values(specs.Reporting),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JOBS)
def test_a_job_is_the_same_on_the_other_side(spec: specs.JobSpec) -> None:
    sent, received = without_picture(spec), without_picture(over_the_wire(spec))
    for side in (sent, received):
        side["fixed"] = bits(side["fixed"])
        if isinstance(side["initialiser"], specs.Given):
            side["initialiser"] = bits(side["initialiser"].latents)
    assert sent == received


def bits(latents: Any) -> dict[str, Any]:
    return {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in latents.items()}


@settings(max_examples=50, deadline=None)
@given(
    values(specs.SampleSpec, seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=64).map(tuple)),
    st.just({}) | LATENTS,
)
def test_draws_are_the_same_on_the_other_side(spec: specs.SampleSpec, fixed: Any) -> None:
    back = convert.sample_spec(convert.sample_message(dataclasses.replace(spec, fixed=fixed)))
    assert bits(back.fixed) == bits(fixed)
    assert dataclasses.replace(back, fixed={}) == spec


def test_zero_is_not_unset() -> None:
    spec = specs.JobSpec(
        picture=make_picture(8, 8),
        losses=(specs.Pixel(weight=0), specs.LatentPrior(weight=2)),
        solver=specs.Adam(warmup_steps=0, beta1=0),
        budget=specs.Budget(steps=0, tolerance=0, target_lpips=0),
    )
    assert without_picture(over_the_wire(spec)) == without_picture(spec)


def test_an_empty_message_takes_every_default() -> None:
    spec = convert.job_spec(job_pb2.JobSpec(image=IMAGE))
    assert without_picture(spec) == without_picture(specs.JobSpec(picture=make_picture(8, 8)))
    assert convert.sample_spec(generator_service_pb2.SampleRequest()) == specs.SampleSpec()
    solver = job_pb2.JobSpec(image=IMAGE)
    solver.solver.adam.SetInParent()
    solver.losses.add().pixel.SetInParent()
    solver.initialiser.best_of.SetInParent()
    spec = convert.job_spec(solver)
    assert (spec.solver, spec.losses, spec.initialiser) == (specs.Adam(), (specs.Pixel(),), specs.BestOf())


def test_the_picture_is_the_one_that_was_sent() -> None:
    spec = convert.job_spec(job_pb2.JobSpec(image=IMAGE))
    pixels = np.round((spec.picture.pixels + 1) * 127.5).astype(np.uint8)
    assert np.array_equal(pixels, np.arange(192, dtype=np.uint8).reshape(8, 8, 3).transpose(2, 0, 1))
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    for weight in (data_pb2.Image(encoded=encode_png(mask)), convert.image_to(mask), convert.image_to(mask > 0)):
        weighted = convert.job_spec(job_pb2.JobSpec(image=IMAGE, weight=weight)).picture
        assert weighted.weight is not None
        assert np.array_equal(weighted.weight, mask / 255)


# ---- ranges ------------------------------------------------------------------------------------


def wrong_numbers(item: dataclasses.Field[Any], message: Any) -> list[Any]:
    """Just outside each end, and what is no number."""
    meta, whole = item.metadata, kind_of(item) is int
    found = []
    for key, sign in (("low", -1), ("high", 1)):
        if meta[key] is not None:
            found.append(meta[key] + sign if whole else math.nextafter(meta[key], sign * math.inf))
    found += [meta[key] for key in ("above", "below") if meta[key] is not None]
    if not whole:
        found += [math.nan, math.inf, -math.inf]
    largest = 2**31 if message.DESCRIPTOR.fields_by_name[item.name].type == 5 else 2**63  # 5: int32
    return [value for value in found if not whole or -largest <= value < largest]


def places() -> list[tuple[str, type[Settings]]]:
    """Every settings class that can be in a job, with its path."""
    found: list[tuple[str, type[Settings]]] = [("", specs.JobSpec), ("budget", specs.Budget)]
    found.append(("reporting", specs.Reporting))
    found += [(f"losses[1].{name}", kind) for name, kind in specs.LOSSES.items()]
    for name, table in (("solver", specs.SOLVERS), ("initialiser", specs.INITIALISERS)):
        found += [(f"{name}.{entry}", kind) for entry, kind in table.items()]
    return found


def at_path(message: job_pb2.JobSpec, path: str) -> Any:
    place: Any = message
    for step in path.split("."):
        if step == "losses[1]":
            message.losses.add().pixel.SetInParent()
            place = message.losses.add()
        elif step:
            place = getattr(place, step)
            place.SetInParent()
    return place


@pytest.mark.parametrize(("path", "kind"), places(), ids=[path or "job" for path, _ in places()])
def test_a_number_out_of_range_is_refused_with_its_path(path: str, kind: type[Settings]) -> None:
    for item in dataclasses.fields(kind):
        if not item.metadata or kind_of(item) not in (int, float):
            continue
        tried = 0
        for value in wrong_numbers(item, at_path(job_pb2.JobSpec(), path)):
            message = job_pb2.JobSpec(image=IMAGE)
            setattr(at_path(message, path), item.name, value)
            with pytest.raises(SpecError, match=r"must be.*found") as caught:
                convert.job_spec(message)
            assert caught.value.field == ".".join(filter(None, (path, item.name)))
            tried += 1
        assert tried, item.name


@pytest.mark.parametrize(
    ("path", "name"), [("", "priority"), ("", "dtype"), ("losses[1].pixel", "kind"), ("solver.adam", "schedule")]
)
def test_a_number_that_an_enum_does_not_know_is_refused(path: str, name: str) -> None:
    message = job_pb2.JobSpec(image=IMAGE)
    setattr(at_path(message, path), name, 99)
    with pytest.raises(SpecError, match="unknown enum number 99") as caught:
        convert.job_spec(job_pb2.JobSpec.FromString(message.SerializeToString()))
    assert caught.value.field == ".".join(filter(None, (path, name)))


def test_number_formats_of_tensors_are_none_of_jobs() -> None:
    with pytest.raises(SpecError, match='unknown value "float16"') as caught:
        convert.job_spec(job_pb2.JobSpec(image=IMAGE, dtype=data_pb2.DTYPE_FLOAT16))
    assert caught.value.field == "dtype"


def test_a_name_that_is_in_no_table_gets_a_hint() -> None:
    with pytest.raises(SpecError, match='did you mean "lpips-alex"') as caught:
        convert.job_spec(job_pb2.JobSpec(image=IMAGE, perceptual="lpips-alec"))
    assert caught.value.field == "perceptual"


def message_with(**fields: Any) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(**{"image": IMAGE, **fields})


TWO_PIXEL = [{"pixel": {}}, {"pixel": {"weight": 2}}]
TENSOR = {"dtype": data_pb2.DTYPE_UINT8, "shape": [8, 8, 3], "data": b"x" * 192}
WRONG: list[tuple[str, dict[str, Any], type[LatentInvError], str, str]] = [
    ("an empty loss", {"losses": [{}]}, SpecError, "losses[0]", "one of pixel, .* must be set"),
    ("an empty solver", {"solver": {}}, SpecError, "solver", "must be set"),
    ("an empty initialiser", {"initialiser": {}}, SpecError, "initialiser", "must be set"),
    ("a loss twice", {"losses": TWO_PIXEL}, SpecError, "losses", "one loss of a kind"),
    ("a thousand losses", {"losses": [{"pixel": {}}] * 1000}, SpecError, "losses", "1000"),
    ("losses that weigh nothing", {"losses": [{"pixel": {"weight": 0}}]}, SpecError, "losses", "weight > 0"),
    ("no picture", {"image": None}, SpecError, "image", "found none"),
    (
        "a picture by hash",
        {"image": {"artifact_sha256": "0" * 64}},
        UnsupportedError,
        "image.artifact_sha256",
        "no files by hash here",
    ),
    ("an empty file", {"image": {"encoded": b""}}, ImageError, "image", "empty|found"),
    ("a foreign file", {"image": {"encoded": b"%PDF-1.7 and more"}}, ImageError, "image", "accepted: PNG"),
    ("half a file", {"image": {"encoded": PNG[:60]}}, ImageError, "image", "truncated"),
    (
        "a tensor of other bytes",
        {"image": {"tensor": {**TENSOR, "shape": [8, 8]}}},
        ShapeError,
        "image.tensor.data",
        "64 bytes, found 192",
    ),
    (
        "an unknown range",
        {"image": {"tensor": TENSOR, "value_range": 9}},
        SpecError,
        "image.value_range",
        "enum number 9",
    ),
    (
        "a weight of another size",
        {"weight": {"tensor": {"dtype": 4, "shape": [2, 2], "data": b"1234"}}},
        ShapeError,
        "weight",
        "8x8, found 2x2",
    ),
    (
        "a weight that hides all",
        {"weight": {"tensor": {"dtype": 4, "shape": [8, 8], "data": bytes(64)}}},
        ImageError,
        "weight",
        "every pixel",
    ),
    ("a broken weight", {"weight": {"encoded": PNG[:60]}}, ImageError, "weight", "truncated"),
    (
        "latents of other bytes",
        {"initialiser": {"given": {"latents": {"parts": {"z": {"dtype": 1, "shape": [1, 3], "data": b"1234"}}}}}},
        ShapeError,
        "initialiser.given.latents.parts.z.data",
        "12 bytes, found 4",
    ),
]


@pytest.mark.parametrize(
    ("fields", "kind", "field", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
def test_what_is_wrong_is_said(fields: dict[str, Any], kind: type[LatentInvError], field: str, text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        convert.job_spec(message_with(**fields))
    assert caught.value.field == field


def test_limits_hold_for_both_pictures() -> None:
    limits = Limits(max_bytes=len(PNG) - 1)
    small = data_pb2.Image(tensor=convert.array_to(np.zeros((8, 8, 3), np.uint8)))
    for message, field in ((message_with(), "image"), (message_with(image=small, weight=IMAGE), "weight")):
        with pytest.raises(LimitError, match=f"{len(PNG)} bytes, at most {len(PNG) - 1}") as caught:
            convert.job_spec(message, limits)
        assert caught.value.field == field
    with pytest.raises(LimitError, match="at most 63 pixels") as caught:
        convert.job_spec(message_with(image=small), Limits(max_pixels=63))
    assert caught.value.field == "image"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (generator_service_pb2.SampleRequest(seeds=[-1]), "seeds"),
        (generator_service_pb2.SampleRequest(seeds=range(65)), "seeds"),
        (generator_service_pb2.SampleRequest(height=-1), "height"),
        (generator_service_pb2.SampleRequest(width=2**31 - 1), "width"),
        (generator_service_pb2.SampleRequest(dtype=77), "dtype"),  # type: ignore[arg-type]
    ],
)
def test_wrong_draws_are_refused(message: generator_service_pb2.SampleRequest, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        convert.sample_spec(message)
    assert caught.value.field == field
    assert len(str(caught.value)) < 200


def test_decode_and_encode_requests() -> None:
    latents = {"z": np.linspace(-1, 1, 24, dtype=np.float64).reshape(2, 12)}
    request = generator_service_pb2.DecodeRequest(generator="smooth", latents=convert.latents_to(latents), dtype=2)  # type: ignore[arg-type]
    spec = convert.decode_spec(request)
    assert (spec.generator, spec.dtype) == ("smooth", "float64")
    assert np.array_equal(spec.latents["z"], latents["z"])
    request.latents.parts["z"].shape.append(2)
    with pytest.raises(ShapeError) as caught:
        convert.decode_spec(request)
    assert caught.value.field == "latents.parts.z.data"
    encode = generator_service_pb2.EncodeRequest(image=IMAGE, space="w", crop=convert.crop_to((1, 2, 7, 8)))
    taken = convert.encode_spec(encode)
    assert (taken.generator, taken.space, taken.crop, taken.picture.height) == ("photos", "w", (1, 2, 7, 8), 8)
    with pytest.raises(SpecError) as caught_picture:
        convert.encode_spec(generator_service_pb2.EncodeRequest())
    assert caught_picture.value.field == "image"
