"""A server that stops in the middle of a call is not one that never was."""

from __future__ import annotations

import asyncio

import pytest

from latent_inv.client import AsyncClient, Client
from latent_inv.client.job import Job
from latent_inv.errors import UnavailableError
from latent_inv.result import Progress
from latent_inv_server.config import ServerConfig
from latent_inv_server.testing import running_server
from tests.server.fake import PNG, FakeEngine
from tests.server.lines import BadLine, serving


def test_a_server_that_stops_is_said_to_have_stopped() -> None:
    async def scenario() -> None:
        # With a grace time, so that a busy machine has the time to send what it says.
        async with running_server(FakeEngine(), ServerConfig(port=0, grace_seconds=5)) as application:
            where = f"127.0.0.1:{application.port}"
            client, blocking = AsyncClient(where), Client(where)
            stream, iterator = client.invert_stream(PNG, "forever"), blocking.invert_stream(PNG, "forever")
            assert isinstance(await anext(stream), Progress)
            assert isinstance(await asyncio.to_thread(next, iterator), Progress)
        with pytest.raises(UnavailableError, match="the server is stopping; the job goes on when it is back") as caught:
            async for _ in stream:
                pass
        assert caught.value.retry_after is not None
        with pytest.raises(UnavailableError, match="the server is stopping"):
            await asyncio.to_thread(list, iterator)
        with pytest.raises(UnavailableError, match=f"no server answers at {where}"):
            await client.healthy()
        with pytest.raises(UnavailableError, match=f"no server answers at {where}"):
            await asyncio.to_thread(blocking.healthy)
        await client.close()
        blocking.close()

    asyncio.run(scenario())


def test_a_watch_goes_on_over_a_line_that_is_late_and_breaks() -> None:
    """It sees each event at most once, in order, and the end."""
    with serving(FakeEngine(pause=0.01)) as where, (bad := BadLine(where, [4000, 3000, 6000], delay=0.01)) as line:
        with Client(where) as client:
            job_id = client.jobs.create(PNG, "steps", steps=200).job_id
        with Client(line) as client:
            seen = list(client.jobs.watch(job_id))
    assert bad.broken == 3
    steps = [event.latest.step for event in seen if isinstance(event, Progress)]
    assert steps == sorted(set(steps))
    assert len(steps) > 3
    assert isinstance(seen[-1], Job)
    assert seen[-1].state == "succeeded"
    assert seen[-1].result is not None
