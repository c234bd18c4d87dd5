"""Who may call: reads token and certificate of each call, and sets `identity.current_caller` around its handler.

Stands inside `Faults`, so that its refusals become statuses. A request is read after the login, not before.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import grpc.aio

from latent_inv.errors import LoginError
from latent_inv_server.faults import MAKE, Context, Continuation, read_request
from latent_inv_server.logs import note

from .identity import LOCAL, Caller, Quotas, current_caller
from .quotas import Calls
from .tokens import TokenFile, is_name

logger = logging.getLogger(__name__)

#: answered without a login: whoever restarts a sick server has no token. They have a bound of their own.
_HEALTH = "/grpc.health.v1.Health/"
_MOST_HEALTH_CALLS = 500
#: seconds between two log lines on refused logins
_LOG_SECONDS = 1.0


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets in whom it knows.

    Args:
        tokens: the clients; None: whoever comes, or whoever has a certificate.
        certificates: TLS has checked a certificate of the client, whose common name is the client's.
        quotas: of clients that are in no file.
        max_calls: most open calls; health checks do not count.
        max_calls_each: most open calls of one client, where there is a login.
    """

    def __init__(
        self,
        tokens: TokenFile | None = None,
        certificates: bool = False,
        *,
        quotas: Quotas = Quotas(),
        max_calls: int = 1000,
        max_calls_each: int | None = None,
    ) -> None:
        self._tokens, self._certificates, self._quotas = tokens, certificates, quotas
        # Without a login all are one client.
        self._calls = Calls(max_calls, max_calls_each if tokens is not None or certificates else None)
        self._health = Calls(_MOST_HEALTH_CALLS, None)
        self._refused, self._logged = 0, float("-inf")

    @property
    def calls(self) -> int:
        """Open calls, without health checks."""
        return self._calls.total

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None:  # gRPC answers UNIMPLEMENTED by itself
            return handler
        health = handler_call_details.method.startswith(_HEALTH)
        guarded = _Guarded(handler, self._let_in_health if health else self._let_in)
        streams = handler.response_streaming and not guarded.writes_itself
        wrapped = guarded.stream if streams else guarded.call
        make = MAKE[handler.request_streaming, handler.response_streaming]
        return make(wrapped, request_deserializer=_as_it_is, response_serializer=handler.response_serializer)

    @contextmanager
    def _let_in(self, context: Context) -> Iterator[None]:
        try:
            caller = self._identify(context)
        except LoginError:
            self._note_refusal(context)
            raise
        with _counted(self._calls, caller):
            yield

    @contextmanager
    def _let_in_health(self, _: Context) -> Iterator[None]:
        with _counted(self._health, LOCAL):
            yield

    # ---- who is it -----------------------------------------------------------------------------

    def _identify(self, context: Context) -> Caller:
        """Raises LoginError with the same text whatever was wrong, so that nobody learns which names there are."""
        if self._tokens is None and not self._certificates:
            return Caller(LOCAL.name, self._quotas)
        shown = _certificate_name(context) if self._certificates else None
        found: Caller | None = None
        if self._tokens is None:
            found = Caller(shown, self._quotas) if shown is not None and is_name(shown) else None
        else:
            given, token = _bearer(context)
            if given:
                found = self._tokens.clients.of_token(token)
                # One's token with another's certificate is neither of them.
                found = found if shown is None or (found is not None and found.name == shown) else None
            elif shown is not None:
                found = self._tokens.clients.named(shown)
        if found is None or (self._certificates and shown is None):
            raise LoginError(self._wanted())
        return found

    def _wanted(self) -> str:
        texts = []
        if self._tokens is not None:
            texts.append("the metadata entry authorization: Bearer TOKEN (LATENT_INV_TOKEN in our clients)")
        if self._certificates:
            texts.append("a certificate of a known client" + (", of the same one" if texts else ""))
        return f"this server wants {' or '.join(texts)}, and found none that it knows"

    def _note_refusal(self, context: Context) -> None:
        """One line a second at most, whatever is tried."""
        self._refused += 1
        if time.monotonic() - self._logged >= _LOG_SECONDS:
            logger.warning("login refused: %d since the last such line, now from %s", self._refused, context.peer())
            self._refused, self._logged = 0, time.monotonic()


@contextmanager
def _counted(calls: Calls, caller: Caller) -> Iterator[None]:
    calls.enter(caller.name)
    before = current_caller.set(caller)
    note(client=caller.name)
    try:
        yield
    finally:
        calls.leave(caller.name)
        # A stream that gRPC abandons between two messages is closed by another task, which never had this caller.
        with suppress(ValueError):
            current_caller.reset(before)


def _bearer(context: Context) -> tuple[bool, str]:
    """(is there an authorization header, its token; empty if it is none)"""
    values = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        return bool(values), ""
    scheme, _, token = values[0].partition(" ")
    return True, token.strip() if scheme.casefold() == "bearer" else ""


def _certificate_name(context: Context) -> str | None:
    names = list(context.auth_context().get("x509_common_name", ()))
    if len(names) != 1:
        return None
    return bytes(names[0]).decode("utf-8", "replace")


def _as_it_is(data: bytes) -> bytes:
    return data


class _Guarded:
    """One handler behind the door; takes the bytes of requests."""

    def __init__(self, handler: Any, let_in: Callable[[Context], Any]) -> None:
        self._handler, self._let_in = handler, let_in
        kinds = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        self._inner: Callable[..., Any] = next(kind for kind in kinds if kind is not None)
        #: gives its answers to the context, as health's Watch does
        self.writes_itself = inspect.iscoroutinefunction(self._inner)

    async def call(self, data: Any, context: Context) -> Any:
        with self._let_in(context):
            return await self._inner(self._request(data), context)

    async def stream(self, data: Any, context: Context) -> AsyncIterator[Any]:
        with self._let_in(context):
            answers = self._inner(self._request(data), context)
            try:
                async for answer in answers:
                    yield answer
            finally:
                # Run the handler's own `finally` now, while the caller is still set.
                await answers.aclose()

    def _request(self, data: Any) -> Any:
        read = self._handler.request_deserializer
        return _read_all(read, data) if self._handler.request_streaming else read_request(read, data)


async def _read_all(read: Callable[[bytes], Any], pieces: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for piece in pieces:
        yield read_request(read, piece)
