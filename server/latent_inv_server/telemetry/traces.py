"""Traces by OpenTelemetry, if its packages are here and somebody collects them: call → job → runs in the engine.

Without them, or without OTEL_EXPORTER_OTLP_ENDPOINT, nothing of it is imported, and what is called here does nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger(__name__)

#: either says where traces go; OpenTelemetry's own variables say the rest (headers, sampling, name of the service)
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
#: seconds that what is not sent yet may take at the end
_FLUSH_SECONDS = 1.0


class CallSpan(Protocol):
    """A call that is traced."""

    def end(self, code: str, client: str) -> None:
        """The call is over, with the name of its status code."""


class JobSpan(Protocol):
    """A job that is traced, from when it is taken to its end."""

    def runs(self, resumed: bool) -> None:
        """It is given to the engine, from its beginning or a checkpoint."""

    def stops(self, reason: str) -> None:
        """The engine has it no longer; harmless if it never had. `reason` is empty if that is well."""

    def end(self, state: str, outcome: str, steps: int) -> None:
        """It is over."""


class Traces(Protocol):
    """Makes spans."""

    def call(self, method: str, metadata: Mapping[str, str], request_id: str) -> CallSpan:
        """Begin the span of a call, of the trace that `metadata` name; it is the current one of this task."""

    def job(self, job_id: str, priority: str) -> JobSpan:
        """Begin the span of a job, below that of the current call if there is one."""

    def close(self) -> None:
        """Send what is left. May take a second."""


class _NoSpan:
    def end(self, *_: object) -> None:
        return

    def runs(self, resumed: bool) -> None:
        return

    def stops(self, reason: str) -> None:
        return


class NoTraces:
    """Does nothing."""

    _SPAN = _NoSpan()

    def call(self, method: str, metadata: Mapping[str, str], request_id: str) -> CallSpan:
        """See Traces."""
        return self._SPAN

    def job(self, job_id: str, priority: str) -> JobSpan:
        """See Traces."""
        return self._SPAN

    def close(self) -> None:
        """See Traces."""


NO_TRACES: Traces = NoTraces()


def open_traces(environ: Mapping[str, str] = os.environ) -> Traces:
    """Traces to the collector that the environment names; `NO_TRACES` if there is none, or no packages for it."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(environ.get(name) for name in ENDPOINTS):
        return NO_TRACES
    if not _installed():
        logger.warning("no traces: they need more packages, pip install 'latent-inv[otel]'")
        return NO_TRACES
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return traces_to(OTLPSpanExporter())


def traces_to(exporter: SpanExporter, at_once: bool = False) -> Traces:
    """Traces by an exporter.

    Args:
        at_once: each span when it ends, for tests; else some at a time, in a thread.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    named = os.environ.get("OTEL_SERVICE_NAME") or "latent-inv"
    # Not the provider of the whole process: two servers in one do not mix.
    provider = TracerProvider(resource=Resource.create({"service.name": named}), shutdown_on_exit=False)
    provider.add_span_processor((SimpleSpanProcessor if at_once else BatchSpanProcessor)(exporter))
    return _OpenTelemetry(provider)


def _installed() -> bool:
    try:
        return all(find_spec(name) is not None for name in _PACKAGES)
    except ModuleNotFoundError:  # not even the package around it
        return False


class _OpenTelemetry:
    """Traces by a provider of spans. Safe to use from several threads."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("latent_inv_server")
        self._propagator = TraceContextTextMapPropagator()

    def call(self, method: str, metadata: Mapping[str, str], request_id: str) -> CallSpan:
        from opentelemetry import context, trace

        service, _, name = method.partition("/")
        about = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name, "latent_inv.request_id": request_id}
        parent = self._propagator.extract(metadata, context=context.Context())
        span = self._tracer.start_span(method, context=parent, kind=trace.SpanKind.SERVER, attributes=about)
        # Never detached: it lasts as long as gRPC's own task for the call.
        context.attach(trace.set_span_in_context(span))
        return _CallSpan(span)

    def job(self, job_id: str, priority: str) -> JobSpan:
        about = {"latent_inv.job_id": job_id, "latent_inv.priority": priority}
        return _JobSpan(self._tracer, self._tracer.start_span("job", attributes=about))

    def close(self) -> None:
        # In a thread that may be left behind: a collector that does not answer is waited for much longer.
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(_FLUSH_SECONDS)


class _CallSpan:
    def __init__(self, span: Any) -> None:
        self._span = span

    def end(self, code: str, client: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("rpc.grpc.status_code", code)
        if client:
            self._span.set_attribute("latent_inv.client", client)
        # Of these the server is to blame; the others are the caller's doing.
        if code in ("UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED"):
            self._span.set_status(StatusCode.ERROR, code)
        self._span.end()


class _JobSpan:
    def __init__(self, tracer: Any, span: Any) -> None:
        self._tracer, self._span, self._run = tracer, span, None
        self._runs = 0

    def runs(self, resumed: bool) -> None:
        from opentelemetry import trace

        self.stops("given to another worker")
        self._runs += 1
        about = {"latent_inv.run": self._runs, "latent_inv.resumed": resumed}
        parent = trace.set_span_in_context(self._span)
        self._run = self._tracer.start_span("engine run", context=parent, attributes=about)

    def stops(self, reason: str) -> None:
        from opentelemetry.trace import StatusCode

        run, self._run = self._run, None
        if run is None:
            return
        if reason:
            run.set_status(StatusCode.ERROR, reason)
        run.end()

    def end(self, state: str, outcome: str, steps: int) -> None:
        from opentelemetry.trace import StatusCode

        self.stops("")
        about = {"latent_inv.state": state, "latent_inv.outcome": outcome, "latent_inv.steps": steps}
        self._span.set_attributes(about)
        if state == "failed":
            self._span.set_status(StatusCode.ERROR, outcome)
        self._span.end()
