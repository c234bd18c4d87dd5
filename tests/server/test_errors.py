"""One error mapping: every failure is a typed status with a sentence, and nothing of the inside gets out."""

from __future__ import annotations

import logging
import re
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from latent_inv import errors
from latent_inv.client import AsyncClient
from latent_inv.errors import (
    MAX_MESSAGE_CHARS,
    InternalError,
    LatentInvError,
    LimitError,
    NotFoundError,
    SpecError,
    UnavailableError,
)
from latent_inv.v1 import components_pb2, data_pb2, inversion_service_pb2, job_pb2
from latent_inv_server.app import Application
from tests.server.fake import PNG, FakeEngine, UnprintableError, serve

SERVICES = {
    "InversionService": {"Invert": "us"},
    "JobService": dict.fromkeys(("CreateJob", "GetJob", "ListJobs", "CancelJob", "DeleteJob"), "uu")
    | {"WatchJob": "us"},
    "GeneratorService": dict.fromkeys(("ListGenerators", "GetGenerator", "Sample", "Encode", "Decode"), "uu"),
    "ArtifactService": dict.fromkeys(("GetArtifact", "ListArtifacts", "DeleteArtifact"), "uu")
    | {"UploadArtifact": "su", "DownloadArtifact": "us"},
}
METHODS = [
    (f"/latent_inv.v1.{service}/{method}", kind) for service in SERVICES for method, kind in SERVICES[service].items()
]
FOREIGN = [
    ("/grpc.health.v1.Health/Check", "uu"),
    ("/grpc.health.v1.Health/Watch", "us"),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "ss"),
]


async def raw(client: AsyncClient, path: str, kind: str, data: bytes) -> grpc.aio.AioRpcError | None:
    """Call a method with bytes; gives the error."""
    channel = client._channel
    try:
        if kind == "uu":
            await channel.unary_unary(path)(data)
        elif kind == "us":
            async for _ in channel.unary_stream(path)(data):
                pass
        elif kind == "su":
            await channel.stream_unary(path)(iter([data]))
        else:
            async for _ in channel.stream_stream(path)(iter([data])):
                return None
    except grpc.aio.AioRpcError as error:
        return error
    return None


def details(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    return status_pb2.Status.FromString(packed)


@pytest.mark.parametrize("fault", [RuntimeError("secret /path/to/x"), UnprintableError(), KeyError("secret")])
@pytest.mark.parametrize("where", ["refused", "fails"])
def test_unforeseen_errors_tell_only_an_id(where: str, fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        with caplog.at_level(logging.ERROR), pytest.raises(InternalError) as caught:
            await client.invert(PNG, where)
        text = str(caught.value)
        assert "secret" not in text
        assert "/" not in text
        assert "Traceback" not in text
        incident = re.search(r"incident ([0-9a-f]{8})", text)
        assert incident is not None
        assert incident[1] in caplog.text

    serve(FakeEngine(error=fault), scenario)


def test_an_error_while_loading_tells_only_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret /path/to/x")

    monkeypatch.setattr("latent_inv.convert.requests.image_from", broken)

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(InternalError, match="incident") as caught:
            await client.invert(PNG, "steps")
        assert "secret" not in str(caught.value)

    serve(FakeEngine(), scenario)


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LatentInvError)][1:]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("where", ["refused", "fails"])
def test_typed_errors_arrive_as_they_were_raised(where: str, kind: type[LatentInvError]) -> None:
    if where == "refused" and kind in (LimitError, UnavailableError):
        pytest.skip("of these two a queued job hears nothing: it waits, and is given to the engine again")

    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(LatentInvError) as caught:
            await client.invert(PNG, where)
        assert type(caught.value) is kind
        assert caught.value.field == "solver.learning_rate"
        assert caught.value.message == "must be > 0, found 0"
        assert caught.value.retry_after == 1.5

    error = kind("must be > 0, found 0", field="solver.learning_rate", retry_after=1.5)
    serve(FakeEngine(error=error), scenario)


def test_the_status_on_the_wire() -> None:
    request = inversion_service_pb2.InvertRequest(
        spec=job_pb2.JobSpec(
            image=data_pb2.Image(encoded=PNG),
            solver=components_pb2.Solver(adam=components_pb2.Adam(learning_rate=-1)),
        )
    )

    async def scenario(_: Application, client: AsyncClient) -> None:
        error = await raw(client, "/latent_inv.v1.InversionService/Invert", "us", request.SerializeToString())
        assert error is not None
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        status = details(error)
        assert status.details[0].Unpack(info)
        assert (info.domain, info.reason) == ("latent_inv", "INVALID_SETTING")
        assert status.details[1].Unpack(bad)
        assert bad.field_violations[0].field == "spec.solver.adam.learning_rate"
        assert "-1" in bad.field_violations[0].description
        assert "> 0" in bad.field_violations[0].description

    engine = FakeEngine()
    serve(engine, scenario)
    assert engine.jobs == [], "refused before it was queued"


def test_what_is_no_field_s_fault_names_none() -> None:
    request = inversion_service_pb2.InvertRequest(
        spec=job_pb2.JobSpec(image=data_pb2.Image(encoded=PNG), generator="fails")
    )

    async def scenario(_: Application, client: AsyncClient) -> None:
        error = await raw(client, "/latent_inv.v1.InversionService/Invert", "us", request.SerializeToString())
        assert error is not None
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        retry = error_details_pb2.RetryInfo()
        assert details(error).details[1].Unpack(retry), "and no BadRequest before it"
        assert retry.retry_delay.ToMilliseconds() == 2000

    serve(FakeEngine(error=LimitError("full", retry_after=2)), scenario)


def test_long_texts_are_cut() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        error = await raw(
            client,
            "/latent_inv.v1.InversionService/Invert",
            "us",
            inversion_service_pb2.InvertRequest(
                spec=job_pb2.JobSpec(image=data_pb2.Image(encoded=PNG), generator="refused")
            ).SerializeToString(),
        )
        assert error is not None
        assert len((error.details() or "").encode()) <= MAX_MESSAGE_CHARS
        assert details(error).ByteSize() < 3 * MAX_MESSAGE_CHARS

    serve(FakeEngine(error=SpecError("ä" * 5000, field="x" * 5000)), scenario)


@pytest.mark.parametrize(("path", "kind"), METHODS + FOREIGN)
def test_rubbish_is_an_invalid_argument(path: str, kind: str) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        error = await raw(client, path, kind, b"\xff\xff\xff")
        assert error is not None
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT

    serve(FakeEngine(), scenario)


@pytest.mark.parametrize("job_id", ["", "../x", "a/b", "x" * 300, "a b", "..", "ä", "a\n"])
def test_ids_that_are_none(job_id: str) -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(LatentInvError) as caught:
            await client.cancel(job_id)
        assert caught.value.status == "INVALID_ARGUMENT"
        assert caught.value.field == "job_id"
        assert len(str(caught.value)) < 200

    engine = FakeEngine()
    serve(engine, scenario)
    assert engine.cancelled == []


def test_a_job_that_never_was() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        with pytest.raises(NotFoundError):
            await client.cancel("0" * 16)

    serve(FakeEngine(), scenario)


def tensor(**fields: Any) -> data_pb2.Tensor:
    return data_pb2.Tensor(**{"dtype": data_pb2.DTYPE_FLOAT32, "shape": [2, 2], "data": bytes(16)} | fields)


BAD_IMAGES = {
    "none": (data_pb2.Image(), "spec.image"),
    "empty file": (data_pb2.Image(encoded=b""), "spec.image"),
    "no picture": (data_pb2.Image(encoded=b"%PDF-1.7"), "spec.image"),
    "half a picture": (data_pb2.Image(encoded=PNG[:40]), "spec.image"),
    "hash of nothing": (data_pb2.Image(artifact_sha256="0" * 64), "spec.image.artifact_sha256"),
    "no hash": (data_pb2.Image(artifact_sha256="../etc/passwd"), "spec.image.artifact_sha256"),
    "no dtype": (data_pb2.Image(tensor=tensor(dtype=0)), "spec.image.tensor.dtype"),
    "dtype of the future": (data_pb2.Image(tensor=tensor(dtype=99)), "spec.image.tensor.dtype"),
    "negative side": (data_pb2.Image(tensor=tensor(shape=[-2, -2])), "spec.image.tensor.shape"),
    "many sides": (data_pb2.Image(tensor=tensor(shape=[1] * 9)), "spec.image.tensor.shape"),
    "a product that wraps around": (data_pb2.Image(tensor=tensor(shape=[2**32, 2**32, 4])), "spec.image.tensor.data"),
    "too few bytes": (data_pb2.Image(tensor=tensor(data=bytes(15))), "spec.image.tensor.data"),
    "too many bytes": (data_pb2.Image(tensor=tensor(data=bytes(17))), "spec.image.tensor.data"),
    "floats of no range": (data_pb2.Image(tensor=tensor()), "spec.image"),
    "range of the future": (data_pb2.Image(tensor=tensor(), value_range=9), "spec.image.value_range"),  # type: ignore[arg-type]
    "no pixels": (data_pb2.Image(tensor=tensor(shape=[0, 0], data=b""), value_range=1), "spec.image"),
    "not a number": (
        data_pb2.Image(tensor=tensor(data=np.full(4, np.nan, "<f4").tobytes()), value_range=1),
        "spec.image",
    ),
    "out of range": (
        data_pb2.Image(tensor=tensor(data=np.full(4, 7, "<f4").tobytes()), value_range=1),
        "spec.image",
    ),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_pictures_that_are_none(name: str) -> None:
    image, field = BAD_IMAGES[name]
    request = inversion_service_pb2.InvertRequest(spec=job_pb2.JobSpec(image=image, generator="steps"))

    async def scenario(_: Application, client: AsyncClient) -> None:
        error = await raw(client, "/latent_inv.v1.InversionService/Invert", "us", request.SerializeToString())
        assert error is not None
        assert error.code().name == ("NOT_FOUND" if name == "hash of nothing" else "INVALID_ARGUMENT")
        bad = error_details_pb2.BadRequest()
        assert details(error).details[1].Unpack(bad)
        assert bad.field_violations[0].field == field

    engine = FakeEngine()
    serve(engine, scenario)
    assert engine.jobs == []


BAD_SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "loss without a kind": ({"losses": [components_pb2.Loss()]}, "spec.losses[0]"),
    "a million losses": (
        {"losses": [components_pb2.Loss(perceptual=components_pb2.Perceptual())] * 1000},
        "spec.losses",
    ),
    "two of a kind": ({"losses": [components_pb2.Loss(perceptual=components_pb2.Perceptual())] * 2}, "spec.losses"),
    "solver without a kind": ({"solver": components_pb2.Solver()}, "spec.solver"),
    "negative weight": (
        {"losses": [components_pb2.Loss(pixel=components_pb2.Pixel(weight=-1))]},
        "spec.losses[0].pixel.weight",
    ),
    "not a number": ({"budget": components_pb2.Budget(seconds=float("nan"))}, "spec.budget.seconds"),
    "infinite": ({"budget": components_pb2.Budget(seconds=float("inf"))}, "spec.budget.seconds"),
    "enum of the future": (
        {"losses": [components_pb2.Loss(pixel=components_pb2.Pixel(kind=77))]},  # type: ignore[arg-type]
        "spec.losses[0].pixel.kind",
    ),
    "seed": ({"seed": -1}, "spec.seed"),
    "lane width": ({"lane_width": 1000}, "spec.lane_width"),
    "metric": ({"perceptual": "vgg"}, "spec.perceptual"),
    "generator": ({"generator": "unknown"}, "spec.generator"),
    "latents": (
        {
            "initialiser": components_pb2.Initialiser(
                given=components_pb2.Given(latents=data_pb2.Latents(parts={"z": tensor(data=b"")}))
            )
        },
        "spec.initialiser.given.latents.parts.z.data",
    ),
    "weight of another size": ({"weight": data_pb2.Image(tensor=tensor())}, "spec.weight"),
    "weight that hides all": (
        {"weight": data_pb2.Image(tensor=tensor(shape=[8, 8], data=bytes(256)))},
        "spec.weight",
    ),
}


@pytest.mark.parametrize("name", BAD_SPECS)
def test_settings_out_of_range(name: str) -> None:
    values, field = BAD_SPECS[name]
    spec = job_pb2.JobSpec(**{"image": data_pb2.Image(encoded=PNG), "generator": "steps"} | values)
    request = inversion_service_pb2.InvertRequest(spec=spec)

    async def scenario(_: Application, client: AsyncClient) -> None:
        error = await raw(client, "/latent_inv.v1.InversionService/Invert", "us", request.SerializeToString())
        assert error is not None
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        bad = error_details_pb2.BadRequest()
        assert details(error).details[1].Unpack(bad)
        assert bad.field_violations[0].field == field

    serve(FakeEngine(), scenario)
