"""Requests that differ from a good one by some bytes: taken, or refused with a typed error, and never anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_inv import convert
from latent_inv.client.messages import invert_request, sample_request
from latent_inv.errors import LatentInvError
from latent_inv.spec import Adam, Budget, DecodeSpec, Pixel
from latent_inv.v1 import generator_service_pb2, inversion_service_pb2
from tests.server.fake import PNG

LATENTS = {"z": np.zeros((1, 3), np.float32)}


def good_invert(image: Any, value_range: Any) -> bytes:
    request = invert_request(
        image,
        "toy",
        weight=np.ones((8, 8), np.float32),
        value_range=value_range,
        start=LATENTS,
        initialiser=None,
        budget=Budget(steps=3),
        shortcuts={},
        settings={
            "crop": (0, 0, 8, 8),
            "losses": (Pixel(),),
            "solver": Adam(learning_rate=0.5),
            "seed": 3,
            "fixed": LATENTS,
        },
    )[0]
    return request.SerializeToString()


def read_invert(data: bytes) -> None:
    convert.job_spec(inversion_service_pb2.InvertRequest.FromString(data).spec)


def read_sample(data: bytes) -> None:
    convert.sample_spec(generator_service_pb2.SampleRequest.FromString(data))


def read_decode(data: bytes) -> None:
    convert.decode_spec(generator_service_pb2.DecodeRequest.FromString(data))


GOOD: list[tuple[Callable[[bytes], None], bytes]] = [
    (read_invert, good_invert(PNG, None)),
    (read_invert, good_invert(np.zeros((8, 8, 3), np.float32), (-1, 1))),
    (read_sample, sample_request((1, 2), "toy", space="z", height=8, width=8, dtype="float64").SerializeToString()),
    (
        read_sample,
        sample_request(
            1, "toy", space="z", height=8, width=8, dtype="float32", conditions={"text": np.ones(3, np.float32)}
        ).SerializeToString(),
    ),
    (read_decode, convert.decode_message(DecodeSpec(latents=LATENTS, generator="toy")).SerializeToString()),
]


def test_the_good_ones_are_good() -> None:
    for read, data in GOOD:
        read(data)


@settings(max_examples=400, deadline=None)
@given(
    which=st.sampled_from(range(len(GOOD))),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 20),
)
def test_changed_bytes(which: int, changes: list[tuple[int, int]], cut: int) -> None:
    read, data = GOOD[which]
    changed = bytearray(data[: len(data) - (cut if cut < 5 else 0)])
    for place, value in changes:
        changed[place % len(changed)] = value
    assert refusal(read, bytes(changed)) in ("", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED")


def refusal(read: Callable[[bytes], None], data: bytes) -> str:
    """The status that a request is refused with; empty if it is taken."""
    try:
        read(data)
    except DecodeError:
        return "INVALID_ARGUMENT"
    except LatentInvError as error:
        return error.status
    return ""
