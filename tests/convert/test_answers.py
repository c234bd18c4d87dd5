"""Results and events on the wire: every field and every bit as they were."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_inv import convert
from latent_inv.images import Picture
from latent_inv.result import (
    Decoded,
    Encoded,
    GeneratorInfo,
    JobResult,
    Metrics,
    Outcome,
    Preview,
    Progress,
    Sampled,
    Step,
)
from latent_inv.spec import MAX_SEED
from tests.toy import TOYS

RANDOM = np.random.default_rng(1)


def floats(*shape: int) -> np.ndarray:
    return np.asarray(RANDOM.uniform(-1, 1, shape), dtype=np.float32)


def again(message: Message) -> Any:
    return type(message).FromString(message.SerializeToString())


def same(one: Any, other: Any) -> bool:
    """Equal to the bit and of the same type, arrays included."""
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if dataclasses.is_dataclass(one):
        names = [item.name for item in dataclasses.fields(one)]
        return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def step(number: int, lpips: float | None = 0.25) -> Step:
    return Step(number, 1 / 3, {"pixel": 0.1, "perceptual": math.pi}, Metrics(31.4, lpips, 1e-300), 0.1 * number)


def result(**changes: Any) -> JobResult:
    return dataclasses.replace(RESULT, **changes)


RESULT = JobResult(
    outcome=Outcome.converged,
    message="No further improvement was found. None for 20 steps.",
    generator="smooth",
    space="w+",
    weights_sha256="a" * 64,
    perceptual="stlpips-alex",
    perceptual_sha256="b" * 64,
    metrics=Metrics(31.4, 0.015, 7e-4),
    loss=0.1 + 0.2,
    steps=7,
    best_step=5,
    seconds=1.25,
    seed=MAX_SEED,
    lane_width=4,
    dtype="float64",
    device="cuda:1",
    budget="time",
    latents={"z": floats(1, 12), "noise.3": floats(1, 1, 4, 4).astype(np.float64)},
    image=floats(3, 5, 7),
    target=Picture(floats(3, 5, 7), np.abs(floats(5, 7))),
    history=tuple(step(number, None if number % 2 else 0.5) for number in range(3)),
    settings={"type": "JobSpec", "solver": {"type": "Adam", "learning_rate": 0.2}, "crop": [0, 0, 5, 5], "x": None},
    versions={"torch": "2.9", "python": "3.11"},
    warnings=("first", "zweitens: ≥ 猫"),
)


def test_every_field_of_a_result_travels() -> None:
    back = convert.result_from(again(convert.result_to(RESULT)))
    for item in dataclasses.fields(JobResult):
        assert same(getattr(RESULT, item.name), getattr(back, item.name)), item.name
    assert back.to_json() == RESULT.to_json()


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_travels(outcome: Outcome) -> None:
    back = convert.result_from(again(convert.result_to(result(outcome=outcome, message=outcome.value))))
    assert (back.outcome, back.message) == (outcome, outcome.value)


def test_a_result_without_the_optional_parts() -> None:
    bare = result(
        metrics=Metrics(200.0, None, 0.0), target=Picture(floats(3, 2, 2)), history=(), settings={}, warnings=()
    )
    assert same(bare, convert.result_from(again(convert.result_to(bare))))


def test_arrays_of_a_result_are_the_receiver_s_own() -> None:
    back = convert.result_from(convert.result_to(RESULT))
    for array in (back.image, back.target.pixels, back.target.weight, *back.latents.values()):
        assert array is not None
        assert array.flags.writeable


def test_files_stay_at_home() -> None:
    message = convert.result_to(result(files={"latents": "/home/somebody/latents.safetensors"}))
    assert b"somebody" not in message.SerializeToString()


def test_the_size_of_a_result_is_that_of_its_numbers() -> None:
    size = convert.result_to(result(image=floats(3, 64, 64), target=Picture(floats(3, 64, 64)))).ByteSize()
    assert size < 2 * 4 * 3 * 64 * 64 + 4000


FINITE = st.floats(allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.tuples(FINITE, st.none() | FINITE, FINITE),
    st.none() | FINITE,
    st.dictionaries(st.text(max_size=9), FINITE),
    st.integers(1, 2**40),
)
def test_progress_travels(
    number: int, scores: tuple[float, float | None, float], left: float | None, terms: dict[str, float], sequence: int
) -> None:
    metrics = Metrics(*scores)
    sent = Progress(
        "job", sequence, Step(number, scores[0], terms, metrics, 1.5), 10**6, 3, scores[2], metrics, 2, left
    )
    assert same(sent, convert.progress_from(again(convert.progress_to(sent)), "job", sequence))


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3), (64, 64, 3)])
def test_previews_lose_nothing(shape: tuple[int, int, int]) -> None:
    for image in (RANDOM.integers(0, 256, shape).astype(np.uint8), np.full(shape, 77, np.uint8)):
        sent = Preview("job", 9, step=4, image=image)
        assert same(sent, convert.preview_from(again(convert.preview_to(sent)), "job", 9))


@pytest.mark.parametrize("info", [kind.info() for kind in TOYS.values()], ids=list(TOYS))
def test_descriptions_travel(info: GeneratorInfo) -> None:
    back = convert.info_from(again(convert.info_to(info)))
    for item in dataclasses.fields(GeneratorInfo):
        sent, received = getattr(info, item.name), getattr(back, item.name)
        if item.name == "spaces":  # shapes may be tuples here, and are lists in JSON
            sent, received = json.loads(json.dumps(sent)), json.loads(json.dumps(received))
        assert same(sent, received), item.name


def test_answers_of_the_generator_service_travel() -> None:
    latents = {"z": floats(2, 12), "class": floats(2, 5)}
    sampled = Sampled("toy", "code", "c" * 64, (0, MAX_SEED), latents, floats(2, 3, 4, 4))
    assert same(sampled, convert.sampled_from(again(convert.sampled_to(sampled))))
    encoded = Encoded("toy", "code", "c" * 64, latents, floats(3, 4, 4))
    assert same(encoded, convert.encoded_from(again(convert.encoded_to(encoded))))
    decoded = Decoded("toy", "c" * 64, floats(2, 3, 4, 4))
    assert same(decoded, convert.decoded_from(again(convert.decoded_to(decoded))))
