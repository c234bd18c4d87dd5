"""A server as a whole: where it listens, what it says of itself, and the real engine behind it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.client import AsyncClient
from latent_inv.client.messages import channel_options
from latent_inv.engine.remote import ThreadEngine
from latent_inv.errors import InputError, InternalError, SpecError, UnavailableError, UnsupportedError
from latent_inv.images import encode_png, load
from latent_inv.result import Preview, Progress
from latent_inv.spec import Adam, Budget, Encoder, JobSpec, Pixel, Reporting, Seeds
from latent_inv_server.app import Application, options
from latent_inv_server.config import ServerConfig
from latent_inv_server.testing import running_server
from tests.conftest import make_picture
from tests.engine.helpers import result_of
from tests.server.fake import FakeEngine, address, serve, until
from tests.server.memory_store import MemoryStore


def test_a_port_in_use_is_refused() -> None:
    async def scenario(application: Application, _: AsyncClient) -> None:
        second = Application(ServerConfig(port=application.port), FakeEngine(), MemoryStore())
        with pytest.raises(UnavailableError, match=f"port {application.port} .* in use"):
            await second.start()

    serve(FakeEngine(), scenario)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_only_this_machine_unless_told(host: str) -> None:
    with pytest.raises(SpecError, match="--allow-remote") as caught:
        ServerConfig(host=host)
    assert caught.value.field == "host"
    assert ServerConfig(host=host, allow_remote=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_addresses_of_this_machine(host: str) -> None:
    assert ServerConfig(host=host).host == host


@pytest.mark.parametrize(("name", "value"), [("port", 65536), ("port", -1), ("max_message_bytes", -1), ("max_jobs", 0)])
def test_numbers_of_the_configuration(name: str, value: int) -> None:
    with pytest.raises(SpecError, match=f"found {value}") as caught:
        ServerConfig(**{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name


def test_health_is_the_worker_s() -> None:
    engine = FakeEngine()

    async def scenario(_: Application, client: AsyncClient) -> None:
        assert await client.healthy()
        health = health_pb2_grpc.HealthStub(client._channel)
        request = health_pb2.HealthCheckRequest(service="latent_inv.v1.InversionService")
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        changes = health.Watch(request)
        assert (await changes.read()).status == health_pb2.HealthCheckResponse.SERVING
        # The worker dies, and another one comes.
        engine.alive = False
        assert (await changes.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not await client.healthy()
        engine.alive = True
        assert (await changes.read()).status == health_pb2.HealthCheckResponse.SERVING
        changes.cancel()

    serve(engine, scenario)


def test_reflection_names_every_service() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        stub = reflection_pb2_grpc.ServerReflectionStub(client._channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([asked])):
            names = {service.name for service in answer.list_services_response.service}
        ours = {f"latent_inv.v1.{name}Service" for name in ("Inversion", "Job", "Generator", "Artifact")}
        assert names == ours | {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}

    serve(FakeEngine(), scenario)


def test_stopping_closes_the_engine_and_ends_open_streams() -> None:
    engine = FakeEngine()

    async def run() -> None:
        async with running_server(engine) as application:
            client = AsyncClient(address(application))
            stream = client.invert_stream(encode_png(np.zeros((8, 8, 3), np.uint8)), "forever")
            await anext(stream)
        with pytest.raises((UnavailableError, InternalError)):
            async for _ in stream:
                pass
        await client.close()

    asyncio.run(run())
    assert engine.closed


@pytest.mark.parametrize("module", ["latent_inv.client", "latent_inv.convert", "latent_inv_server.main"])
def test_no_torch_in_the_gateway(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'matplotlib', 'lpips'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", sorted({name for name, _ in [*options(ServerConfig()), *channel_options(1)]}))
def test_grpc_knows_every_option_that_it_is_given(name: str) -> None:
    """It takes any name without a word. A quiet call was cut after three minutes once, since one was misspelt."""
    assert name.encode() + b"\0" in Path(cygrpc.__file__).read_bytes()


# ---- with the real engine ----------------------------------------------------------------------


def toy_engine() -> ThreadEngine:
    return ThreadEngine("cpu", None, 4, "tests.toy:TOYS")


def test_a_job_is_the_same_over_the_wire() -> None:
    """One loop for all: to the last bit the result of the library, metrics and history included."""
    picture = load(encode_png(make_picture(40, 36).pixels))
    mask = np.zeros((40, 36), np.float32)
    mask[:, :20] = 1
    settings = {
        "losses": (Pixel(kind="huber", delta=0.3),),
        "solver": Adam(learning_rate=0.05, schedule="constant"),
        "initialiser": Seeds(count=2),
        "seed": 5,
        "crop": (0, 4, 32, 36),
    }
    from latent_inv.images import with_weight

    here = result_of(
        JobSpec(picture=with_weight(picture, mask), generator="smooth", budget=Budget(steps=15), **settings)
    )
    seen: list[Progress] = []
    previews: list[Preview] = []

    async def scenario(_: Application, client: AsyncClient) -> None:
        there = await client.invert(
            picture.pixels,
            "smooth",
            value_range=(-1, 1),
            weight=mask,
            steps=15,
            reporting=Reporting(preview_steps=5),
            on_progress=seen.append,
            on_preview=previews.append,
            **settings,
        )
        np.testing.assert_array_equal(there.latents["z"], here.latents["z"])
        np.testing.assert_array_equal(there.image, here.image)
        np.testing.assert_array_equal(there.target.pixels, here.target.pixels)
        assert there.target.weight is not None
        np.testing.assert_array_equal(there.target.weight, here.target.weight)
        assert [(s.step, s.loss, s.terms, s.metrics) for s in there.history] == [
            (s.step, s.loss, s.terms, s.metrics) for s in here.history
        ]
        changing = {"seconds", "settings"}
        assert {k: v for k, v in there.to_json().items() if k not in changing} == {
            k: v for k, v in here.to_json().items() if k not in changing
        }
        assert seen[-1].latest.step == 15
        assert previews[-1].image.shape == (32, 32, 3)
        # and what was found decodes to the same picture
        again = await client.decode(there, "smooth")
        np.testing.assert_allclose(again.images[0], there.image, atol=1e-5)  # another batch size, other kernels
        # a start from it has its loss
        scored = await client.invert(
            picture.pixels, "smooth", value_range=(-1, 1), weight=mask, start=there, steps=0, **_without(settings)
        )
        assert scored.loss == pytest.approx(there.loss, rel=1e-5)

    serve(toy_engine(), scenario)


def _without(settings: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name != "initialiser"}


def test_half_precision_and_what_it_could_not_hold_are_told_over_the_wire() -> None:
    z = np.stack([np.full(12, 0.5, np.float32), np.full(12, 3.5, np.float32)])

    async def scenario(_: Application, client: AsyncClient) -> None:
        decoded = await client.decode({"z": z}, "loud", precision="float16")
        assert decoded.precision == "float16"
        assert decoded.warnings == ("float16 gave values that are not finite, so decoded in float32: rows 1",)
        sampled = await client.sample(1, "smooth", precision="bfloat16")
        assert (sampled.precision, sampled.warnings) == ("bfloat16", ())
        white = np.ones((3, 32, 32), np.float32)
        encoded = await client.encode(white, "loud", value_range=(-1, 1), precision="float16")
        assert "looked again in float32" in encoded.warnings[0]
        found = await client.invert(
            white,
            "loud",
            value_range=(-1, 1),
            start={"z": z[1:]},
            losses=(Pixel(),),
            solver=Adam(),
            steps=2,
            precision="float16",
        )
        assert found.precision == "float32"
        assert any("float16 gave values that are not finite" in warning for warning in found.warnings)
        assert (await client.generator("smooth")).halves == ("bfloat16", "float16")

    serve(toy_engine(), scenario)


def test_numbers_are_given_over_the_wire() -> None:
    noise = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    black = np.zeros((3, 32, 32), np.float32)

    async def scenario(_: Application, client: AsyncClient) -> None:
        drawn = await client.sample((1, 2), "layered", conditions={"noise": noise})
        assert all(np.array_equal(row, noise) for row in drawn.latents["noise"])
        asked = {"losses": (Pixel(),), "solver": Adam(), "steps": 2, "value_range": (-1, 1)}
        found = await client.invert(black, "layered", conditions={"noise": noise}, **asked)
        assert np.array_equal(found.latents["noise"], noise[None])
        queued = await client.jobs.create(black, "layered", conditions={"noise": noise}, **asked)
        result = (await client.jobs.wait(queued.job_id)).result
        assert result is not None
        assert np.array_equal(result.latents["z"], found.latents["z"])
        for wrong in ({"noise": noise[:3]}, {"text": noise}, {"z": np.zeros(12)}):
            with pytest.raises(InputError):
                await client.invert(black, "layered", conditions=wrong, **asked)

    serve(toy_engine(), scenario)


def test_a_server_decides_what_auto_means() -> None:
    async def scenario(_: Application, client: AsyncClient) -> None:
        assert (await client.sample(1, "smooth")).precision == "bfloat16"
        assert (await client.sample(1, "toy")).precision == "float32"

    serve(ThreadEngine("cpu", None, 4, "tests.toy:TOYS", precision="bfloat16"), scenario)


def test_errors_of_the_real_engine_name_the_argument() -> None:
    png = encode_png(make_picture(32, 32).pixels)
    wrong = {
        "generator": {"generator": "smoth"},
        "space": {"space": "w"},
        "crop": {"crop": (0, 0, 99, 99)},
        "initialiser.latents": {"start": {"w": np.zeros((1, 12), np.float32)}},
        "solver": {"generator": "frozen", "solver": Adam()},
        "initialiser": {"initialiser": Encoder()},
    }

    async def scenario(_: Application, client: AsyncClient) -> None:
        for field, arguments in wrong.items():
            with pytest.raises((InputError, UnsupportedError)) as caught:
                await client.invert(png, **{"generator": "smooth", "losses": (Pixel(),)} | arguments)
            assert caught.value.field == field
        with pytest.raises(InternalError, match="incident"):
            await client.invert(png, "raises", losses=(Pixel(),))
        assert (await client.sample((1, 2), "smooth")).images.shape == (2, 3, 32, 32)
        assert "smooth" in [info.name for info in await client.generators()]

    serve(toy_engine(), scenario)


def test_leaving_stops_the_real_engine_within_a_step() -> None:
    engine = toy_engine()
    png = encode_png(make_picture(32, 32).pixels)

    async def scenario(application: Application, client: AsyncClient) -> None:
        stream = client.invert_stream(png, "smooth", losses=(Pixel(),), steps=1_000_000)
        first = await anext(stream)
        assert isinstance(first, Progress)
        await stream.aclose()
        await until(lambda: application.jobs.unfinished == 0)
        # The worker is free for the next.
        assert (await client.invert(png, "smooth", losses=(Pixel(),), steps=2)).steps == 2

    serve(engine, scenario)


def test_the_command_says_where_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[ServerConfig] = []

    def run(config: ServerConfig, on_ready: Callable[[int], None]) -> int:
        configs.append(config)
        on_ready(4321)
        return 0

    monkeypatch.setattr("latent_inv_server.main.run", run)
    done = CliRunner().invoke(app, ["serve", "--port", "0", "--max-message-mb", "8", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"host": "127.0.0.1", "port": 4321, "pid": os.getpid()}
    assert (configs[0].port, configs[0].max_message_bytes) == (0, 8 * 2**20)
    assert "127.0.0.1:4321" in CliRunner().invoke(app, ["serve"]).stdout
