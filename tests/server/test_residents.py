"""Generators in a server's memory: listed, loaded and unloaded over the wire, by both clients and from the shell."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from latent_inv.cli import app
from latent_inv.client import AsyncClient, Client
from latent_inv.engine.remote import ThreadEngine
from latent_inv.errors import LimitError, SpecError, StateError
from latent_inv.images import encode_png
from latent_inv.residents import Residents
from latent_inv.spec import Adam, Seeds
from latent_inv_server.app import Application
from latent_inv_server.fleet import Fleet
from tests.conftest import make_picture
from tests.server.fake import address, serve
from tests.test_catalogue import SIDE

CATALOGUE = "tests.test_catalogue:TABLE"


def engine(**settings: Any) -> ThreadEngine:
    """Room for three generators of 256 KiB in a MiB."""
    return ThreadEngine("cpu", None, 4, CATALOGUE, generator_memory_mb=1, **settings)


def picture() -> bytes:
    return encode_png(make_picture(SIDE, SIDE).pixels)


def names(held: Residents) -> list[str]:
    return [one.name for one in held.generators]


def test_both_clients() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        assert names(await client.loaded_generators()) == []
        held = await client.load_generator("a", dtype="float64")
        (one,) = held.generators
        assert (one.name, one.formats, one.memory_bytes, one.device) == ("a", ("float64",), 512 * 1024, "cpu")
        assert (held.budget_bytes, held.freed_bytes) == (2**20, 0)
        await client.load_generator("b")
        with Client(address(application)) as blocking:
            call = asyncio.to_thread
            assert names(await call(blocking.load_generator, "a", dtype="float64")) == ["b", "a"]
            assert names(await call(blocking.load_generator, "c")) == ["b", "a", "c"]
            assert names(await call(blocking.load_generator, "d")) == ["a", "c", "d"], "b was the oldest"
            held = await call(blocking.unload_generator, "a")
            assert (names(held), held.freed_bytes) == (["c", "d"], 512 * 1024)
            assert (await call(blocking.unload_generator, "a")).freed_bytes == 0
            assert await call(blocking.loaded_generators) == await client.loaded_generators()

    serve(engine(), scenario)


def test_what_is_wrong_is_said() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        for call in (client.load_generator, client.unload_generator):
            with pytest.raises(SpecError, match="unknown generator"):
                await call("e")
            with pytest.raises(SpecError, match="a generator is named"):
                await call("")
        with pytest.raises(SpecError, match="precision"):
            await client.load_generator("a", precision="float8")

    serve(engine(), scenario)


def test_one_that_a_job_has_stays() -> None:
    async def scenario(application: Application, client: AsyncClient) -> None:
        settings: dict[str, Any] = {"solver": Adam(), "initialiser": Seeds(), "steps": 1_000_000}
        job = await client.jobs.create(picture(), "a", **settings)
        async for _ in client.jobs.watch(job.job_id):
            break
        with pytest.raises(StateError, match="a is in use by 1 job"):
            await client.unload_generator("a")
        for name in ("b", "c", "d"):
            await client.load_generator(name)
        held = await client.loaded_generators()
        assert {one.name: one.users for one in held.generators} == {"a": 1, "b": 0, "c": 0, "d": 0}
        await client.load_generator("a", dtype="float64")
        assert names(await client.loaded_generators()) == ["d", "a"]
        with pytest.raises(LimitError, match="others are in use") as caught:
            await client.load_generator("b", dtype="float64")
        assert caught.value.retry_after is not None
        await client.jobs.cancel(job.job_id)
        await client.jobs.wait(job.job_id)
        assert (await client.unload_generator("a")).freed_bytes > 0

    serve(engine(), scenario)


def test_a_job_waits_for_room() -> None:
    """Two jobs whose generators do not fit side by side are done one after the other."""

    async def scenario(application: Application, client: AsyncClient) -> None:
        settings: dict[str, Any] = {"solver": Adam(), "initialiser": Seeds(), "dtype": "float64"}
        made = [await client.jobs.create(picture(), name, steps=40, **settings) for name in ("a", "b", "c", "d")]
        ended = [await client.jobs.wait(job.job_id) for job in made]
        assert [(job.state, job.error) for job in ended] == [("succeeded", "")] * 4
        assert len((await client.loaded_generators()).generators) <= 2

    serve(engine(), scenario)


def test_from_the_shell() -> None:
    def call(application: Application, *arguments: str) -> Any:
        return CliRunner().invoke(app, ["models", *arguments, "--server", address(application)])

    async def scenario(application: Application, client: AsyncClient) -> None:
        async def run(*arguments: str) -> Any:
            return await asyncio.to_thread(call, application, *arguments)

        assert "no generator is loaded" in (await run("loaded")).stdout
        done = await run("load", "a")
        assert done.exit_code == 0, done.output
        assert "a  0.2 MiB on cpu, float32, idle" in done.stdout
        assert "1 MiB may be taken" in done.stdout
        assert [one["name"] for one in json.loads((await run("loaded", "--json")).stdout)["generators"]] == ["a"]
        assert "freed 0.2 MiB" in (await run("unload", "a")).stdout
        wrong = await run("load", "e")
        assert (wrong.exit_code, wrong.stdout) == (2, "")
        assert "unknown generator" in wrong.stderr

    serve(engine(), scenario)


def test_each_device_is_asked() -> None:
    """Two workers: a generator is loaded in both, and unloaded in both."""
    fleet = Fleet(("cpu", "cpu:0"), catalogue=CATALOGUE, generator_memory_mb=1)
    fleet.started.result(60)

    async def scenario(application: Application, client: AsyncClient) -> None:
        held = await client.load_generator("a")
        assert names(held) == ["a", "a"]
        held = await client.unload_generator("a")
        assert (names(held), held.freed_bytes) == ([], 2 * 256 * 1024)

    serve(fleet, scenario)
