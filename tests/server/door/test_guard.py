"""Who is let in: tokens on every kind of call, who is calling while a handler runs, and what is said of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from latent_inv.client import AsyncClient
from latent_inv.errors import LimitError, LoginError
from latent_inv_server.door import guard as guard_module
from latent_inv_server.door.guard import Guard
from latent_inv_server.door.identity import LOCAL, Quotas, caller
from latent_inv_server.door.tokens import TokenFile, hash_of
from latent_inv_server.faults import Faults
from tests.server.door.knocking import KINDS, Metadata, bearer, channel, clients, door, run
from tests.server.fake import PNG, FakeEngine, address, until
from tests.server.test_errors import details

WRONG: dict[str, Metadata] = {
    "none": (),
    "wrong": bearer("linv_" + "x" * 43),
    "empty": bearer(""),
    "no scheme": (("authorization", "TOKEN"),),
    "basic": (("authorization", "Basic TOKEN"),),
    "twice": (*bearer("TOKEN"), *bearer("TOKEN")),
    "long": bearer("TOKEN" + "x" * 5000),
    "spaces inside": bearer("TOKEN TOKEN"),
    "beginning": bearer("TOK"),
    "the hash": bearer("HASH"),
    "another header": (("x-authorization", "Bearer TOKEN"),),
}


def filled(metadata: Metadata, token: str) -> Metadata:
    return tuple(
        (name, value.replace("TOKEN", token).replace("HASH", hash_of(token).hex())) for name, value in metadata
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_token_is_let_in(kind: str, tmp_path: Path) -> None:
    token = clients(tmp_path / "tokens.toml", "bob", "alice", "carol")["alice"]

    async def scenario() -> None:
        async with door(tokens=tmp_path / "tokens.toml") as application, channel(application) as opened:
            await KINDS[kind](opened, bearer(token))
            await KINDS[kind](opened, (("authorization", f"bearer  {token} "),))

    run(scenario)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", WRONG)
def test_anything_else_is_not(what: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    token = clients(tmp_path / "tokens.toml", "alice")["alice"]
    engine, texts = FakeEngine(), set()

    async def scenario() -> None:
        async with door(engine, tokens=tmp_path / "tokens.toml") as application, channel(application) as opened:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await KINDS[kind](opened, filled(WRONG[what], token))
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
            info = error_details_pb2.ErrorInfo()
            assert details(caught.value).details[0].Unpack(info)
            assert info.reason == "LOGIN_FAILED"
            texts.add(caught.value.details())
            assert token not in repr(caught.value)
            assert application.door.guard.calls == 0

    with caplog.at_level(logging.DEBUG):
        run(scenario)
    assert engine.submitted == []
    assert texts == {Guard(tokens=object())._wanted()}, "the same text whatever was wrong"  # type: ignore[arg-type]
    assert "login refused" in caplog.text
    assert token not in caplog.text


def test_a_stranger_s_request_is_not_even_read(tmp_path: Path) -> None:
    clients(tmp_path / "tokens.toml", "alice")

    async def scenario() -> None:
        async with door(tokens=tmp_path / "tokens.toml") as application, channel(application) as opened:
            call = opened.unary_unary("/latent_inv.v1.GeneratorService/ListGenerators")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"\xff\xff\xff")
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED

    run(scenario)


def test_health_needs_no_token_and_reflection_does(tmp_path: Path) -> None:
    clients(tmp_path / "tokens.toml", "alice")

    async def scenario() -> None:
        async with door(tokens=tmp_path / "tokens.toml") as application, channel(application) as opened:
            health = health_pb2_grpc.HealthStub(opened)
            request = health_pb2.HealthCheckRequest()
            assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
            changes = health.Watch(request)
            assert (await changes.read()).status == health_pb2.HealthCheckResponse.SERVING
            changes.cancel()
            with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
                await KINDS["both streams"](opened)

    run(scenario)


def test_health_watchers_have_a_bound_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_MOST_HEALTH_CALLS", 3)
    token = clients(tmp_path / "tokens.toml", "alice")["alice"]

    async def scenario() -> None:
        async with door(tokens=tmp_path / "tokens.toml") as application, channel(application) as opened:
            health, request = health_pb2_grpc.HealthStub(opened), health_pb2.HealthCheckRequest()
            watching = [health.Watch(request) for _ in range(3)]
            for changes in watching:
                await changes.read()
            with pytest.raises(grpc.aio.AioRpcError, match="RESOURCE_EXHAUSTED"):
                await health.Check(request)
            await KINDS["unary"](opened, bearer(token))
            for changes in watching:
                changes.cancel()
            await until(lambda: application.door.guard._health.total == 0)
            await health.Check(request)

    run(scenario)


def test_our_clients_send_their_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = clients(tmp_path / "tokens.toml", "alice")["alice"]

    async def scenario() -> None:
        async with door(tokens=tmp_path / "tokens.toml") as application:
            where = address(application)
            async with AsyncClient(where, token=token) as client:
                assert len(await client.generators()) == len(FakeEngine.names)
                assert (await client.invert(PNG, "steps", steps=2)).steps == 2
                stream = client.invert_stream(PNG, "forever")
                await anext(stream)
                await stream.aclose()
            async with AsyncClient(where) as client:
                with pytest.raises(LoginError):
                    await client.invert(PNG, "steps", steps=2)
            monkeypatch.setenv("LATENT_INV_TOKEN", token + "\n")
            async with AsyncClient(where) as client:
                assert len(await client.generators()) == len(FakeEngine.names)
            async with AsyncClient(where, token="") as client:
                with pytest.raises(LoginError):
                    await client.generators()

    run(scenario)


@pytest.mark.parametrize("size", [4_000, 64 * 1024])
def test_a_huge_header_harms_nobody(size: int, tmp_path: Path) -> None:
    token = clients(tmp_path / "tokens.toml", "alice")["alice"]

    async def scenario() -> None:
        async with door(tokens=tmp_path / "tokens.toml") as application, channel(application) as opened:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await KINDS["unary"](opened, bearer(token + "x" * size))
            refused = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)
            assert caught.value.code() in refused
            await KINDS["unary"](opened, bearer(token))

    run(scenario)


# ---- who is calling ----------------------------------------------------------------------------


async def name_of_caller() -> StringValue:
    await asyncio.sleep(0.002)  # others come in between
    return StringValue(value=f"{caller().name} {caller().quotas.queued_jobs}")


class Mirror(grpc.GenericRpcHandler):
    """A service of four methods, /mirror/NAME OF KIND, each of which answers who is calling."""

    async def _one(self, request: Any, _: Any) -> StringValue:
        return await name_of_caller()

    async def _many(self, request: Any, _: Any) -> AsyncIterator[StringValue]:
        for _number in range(3):
            yield await name_of_caller()

    def service(self, handler_call_details: Any) -> Any:
        kinds = {
            "unary": (grpc.unary_unary_rpc_method_handler, self._one),
            "server stream": (grpc.unary_stream_rpc_method_handler, self._many),
            "client stream": (grpc.stream_unary_rpc_method_handler, self._one),
            "both streams": (grpc.stream_stream_rpc_method_handler, self._many),
        }
        make, method = kinds[handler_call_details.method.rpartition("/")[2]]
        return make(
            method, request_deserializer=StringValue.FromString, response_serializer=StringValue.SerializeToString
        )


async def look(opened: Any, kind: str, metadata: Metadata = ()) -> set[str]:
    """Who a call of that kind is said to be by."""
    path, data = f"/mirror/{kind}", StringValue().SerializeToString()
    if kind == "unary":
        answers = [await opened.unary_unary(path)(data, metadata=metadata)]
    elif kind == "client stream":
        answers = [await opened.stream_unary(path)(iter([data, data]), metadata=metadata)]
    elif kind == "server stream":
        answers = [answer async for answer in opened.unary_stream(path)(data, metadata=metadata)]
    else:
        answers = [answer async for answer in opened.stream_stream(path)(iter([data, data]), metadata=metadata)]
    return {StringValue.FromString(answer).value for answer in answers}


@asynccontextmanager
async def mirror(guard: Guard) -> AsyncIterator[Any]:
    server = grpc.aio.server(interceptors=[Faults(2**20), guard])
    server.add_generic_rpc_handlers((Mirror(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(0)


def test_a_handler_knows_who_calls(tmp_path: Path) -> None:
    """Calls of all kinds at once on one connection: nobody is taken for somebody else."""
    names = ["alice", "bob", "carol"]
    tokens = clients(tmp_path / "tokens.toml", *names)
    guard = Guard(TokenFile(tmp_path / "tokens.toml"))

    async def scenario() -> None:
        async with mirror(guard) as opened:
            calls = [(kind, name) for kind in KINDS for name in names * 4]
            seen = await asyncio.gather(*(look(opened, kind, bearer(tokens[name])) for kind, name in calls))
            assert seen == [{f"{name} None"} for _, name in calls]
            assert caller() is LOCAL
            assert guard.calls == 0

    run(scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_login_all_are_one_client_with_the_server_s_quotas(kind: str) -> None:
    async def scenario() -> None:
        async with mirror(Guard(quotas=Quotas(queued_jobs=7))) as opened:
            assert await look(opened, kind, bearer("whatever")) == await look(opened, kind) == {"local 7"}

    run(scenario)


class Context:
    """As little of a servicer context as the guard needs."""

    def __init__(self, metadata: Metadata = (), names: tuple[bytes, ...] = ()) -> None:
        self._metadata, self._names = metadata, names

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def auth_context(self) -> dict[str, tuple[bytes, ...]]:
        return {"x509_common_name": self._names} if self._names else {}

    def peer(self) -> str:
        return "ipv4:192.0.2.1:5"


def handler_behind(guard: Guard, made: Any) -> Any:
    async def continuation(_: Any) -> Any:
        return made

    class Call:
        method = "/a.B/C"

    return asyncio.run(guard.intercept_service(continuation, Call()))  # type: ignore[arg-type]


def test_the_caller_is_forgotten_when_the_handler_is_over() -> None:
    """Also where one task runs calls one after the other, and where a stream is left in the middle."""
    seen: list[tuple[str, int | None]] = []

    async def one(request: bytes, _: Any) -> bytes:
        seen.append((caller().name, caller().quotas.queued_jobs))
        if request == b"fail":
            raise RuntimeError
        return request

    async def many(request: bytes, _: Any) -> AsyncIterator[bytes]:
        try:
            for _number in range(3):
                seen.append((caller().name, caller().quotas.queued_jobs))
                yield request
        finally:
            seen.append((f"end of {caller().name}", None))

    guard = Guard(quotas=Quotas(queued_jobs=5))
    read = {"request_deserializer": bytes, "response_serializer": bytes}
    unary = handler_behind(guard, grpc.unary_unary_rpc_method_handler(one, **read))
    stream = handler_behind(guard, grpc.unary_stream_rpc_method_handler(many, **read))
    assert not inspect.iscoroutinefunction(stream.unary_stream)

    async def scenario() -> None:
        assert await unary.unary_unary(b"x", Context()) == b"x"
        assert caller() is LOCAL
        with pytest.raises(RuntimeError):
            await unary.unary_unary(b"fail", Context())
        assert caller() is LOCAL
        answers = stream.unary_stream(b"x", Context())
        assert await anext(answers) == b"x"
        assert guard.calls == 1
        await answers.aclose()
        assert seen[-1] == ("end of local", None), "now, and not when the garbage is collected"
        assert caller() is LOCAL
        assert guard.calls == 0

    run(scenario)
    assert seen == [("local", 5)] * 3 + [("end of local", None)]


# ---- certificates beside tokens ----------------------------------------------------------------

BOTH = {
    "certificate alone": ("", b"alice", "alice"),
    "both of one": ("alice", b"alice", "alice"),
    "certificate of one who is in no list": ("", b"mallory", None),
    "token of another": ("bob", b"alice", None),
    "certificate without a name": ("alice", b"", None),
    "wrong token": ("?", b"alice", None),
}


@pytest.mark.parametrize("what", BOTH)
def test_token_and_certificate_must_be_of_one_client(what: str, tmp_path: Path) -> None:
    tokens = clients(tmp_path / "tokens.toml", "alice", "bob")
    of, shown, name = BOTH[what]
    guard = Guard(TokenFile(tmp_path / "tokens.toml"), certificates=True)
    metadata = bearer(tokens.get(of, "wrong")) if of else ()
    context: Any = Context(metadata, (shown,) if shown else ())
    if name is None:
        with pytest.raises(LoginError, match="certificate of a known client"):
            guard._identify(context)
    else:
        assert guard._identify(context).name == name


@pytest.mark.parametrize("names", [(), (b"a", b"b"), (b"../x",), (b"\xff",), (b"a b",), (b"x" * 65,)])
def test_names_that_no_client_has(names: tuple[bytes, ...]) -> None:
    context: Any = Context((), names)
    with pytest.raises(LoginError):
        Guard(certificates=True)._identify(context)
    assert Guard()._identify(context).name == "local", "and without a login nobody looks at them"


# ---- how many calls ----------------------------------------------------------------------------


def test_one_client_cannot_take_all_calls(tmp_path: Path) -> None:
    tokens = clients(tmp_path / "tokens.toml", "alice", "bob")

    async def scenario() -> None:
        settings = {"tokens": tmp_path / "tokens.toml", "max_calls_per_client": 2, "max_streams": 3}
        async with (
            door(**settings) as application,
            AsyncClient(address(application), token=tokens["alice"]) as alice,
            AsyncClient(address(application), token=tokens["bob"]) as bob,
        ):
            streams = [alice.invert_stream(PNG, "forever") for _ in range(2)]
            await asyncio.gather(*(anext(stream) for stream in streams))
            with pytest.raises(LimitError, match="2 of your calls are open, at most 2") as caught:
                await alice.generators()
            assert caught.value.retry_after == 1
            another = bob.invert_stream(PNG, "forever")
            await anext(another)
            with pytest.raises(LimitError, match="3 calls are open") as caught:
                await bob.generators()
            assert caught.value.retry_after == 1
            assert await bob.healthy(), "health has a bound of its own"
            for stream in (*streams, another):
                await stream.aclose()
            await until(lambda: application.door.guard.calls == 0)
            assert len(await alice.generators()) == len(FakeEngine.names)

    run(scenario)


def test_refusals_are_logged_once_a_second(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(guard_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    clients(tmp_path / "tokens.toml", "alice")
    guard = Guard(TokenFile(tmp_path / "tokens.toml"))
    context: Any = Context(bearer("secret-of-somebody"))
    for _ in range(100):
        with pytest.raises(LoginError), guard._let_in(context):
            pass
        clock[0] += 0.03
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert [re.findall(r"\d+", line)[0] for line in lines] == ["1", "34", "34"]
    assert "192.0.2.1" in lines[0]
    assert "secret-of-somebody" not in caplog.text
