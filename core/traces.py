"""Traces by OpenTelemetry, from a client's call to the settled job. Off unless an endpoint is set.

The context of a trace is W3C's `traceparent`. It travels in the message, because OpenTelemetry does not see
messages of ours. Steps are recorded when they have ended, with their times, so nothing has to be open in a
thread that does the work of several requests, or in a worker's child.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from core.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Tracer
    from opentelemetry.trace import Span

_current: Final[ContextVar[str]] = ContextVar("traceparent", default="")

_PATH: Final = "/v1/traces"


class Tracing:
    """Recorder of one process; its export runs in a thread of its own.

    Args:
        endpoint: URL of the collector (OTLP over HTTP). `OTEL_*` variables set the rest, such as the sampler.
        service: name of the program in the traces.
    """

    def __init__(self, endpoint: str, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint.rstrip("/").removesuffix(_PATH) + _PATH))
        )
        self._tracer: Tracer = provider.get_tracer("wastestream")  # type: ignore[assignment]

    def begin(self, name: str, parent: str) -> Span:
        """Begin the span of a request; what it causes becomes its children in this thread: see `current`.

        Args:
            name: of the span.
            parent: the client's `traceparent`; a new trace begins without one, or with one that is malformed.
        """
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - as above

        span = self._tracer.start_span(name, _context(parent), SpanKind.SERVER)
        _current.set(_traceparent(span))
        return span

    def end(self, span: Span, **attributes: Any) -> None:
        """End the span of a request."""
        _current.set("")
        span.set_attributes({name.replace("_", "."): value for name, value in attributes.items()})
        span.end()

    def record(self, parent: str, name: str, times: tuple[int, int], **attributes: Any) -> str:
        """Record a span that has ended, and return its `traceparent`, for children.

        Args:
            parent: a `traceparent`.
            name: of the span.
            times: beginning and end, nanoseconds since 1970.
            attributes: of the span; `_` in a name stands for a dot.
        """
        span = self._tracer.start_span(name, _context(parent), start_time=times[0])
        span.set_attributes({name.replace("_", "."): value for name, value in attributes.items()})
        span.end(times[1])
        return _traceparent(span)


tracing: Tracing | None = None
"""Recorder of this process; None while traces are off."""


def check(endpoint: str) -> None:
    """Check that traces can be turned on.

    Raises:
        SettingsError: there is an endpoint, and the extra `otel` is not installed.
    """
    try:
        if endpoint:
            find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"WASTESTREAM_OTLP_ENDPOINT needs a package that is not installed here, {error.name}: "
            "pip install 'WHEEL[otel]', where WHEEL is the file that wastestream was installed from."
        ) from error


def set_up(endpoint: str, service: str) -> None:
    """Turn traces on, if there is an endpoint; call `check` before."""
    global tracing  # noqa: PLW0603 - one a process, as its log
    if endpoint and tracing is None:
        tracing = Tracing(endpoint, service)


def current() -> str:
    """Return the `traceparent` of the request that this thread serves; empty without one that is sampled."""
    return _current.get()


def record_each(parents: Iterable[str], name: str, times: tuple[int, int]) -> None:
    """Record a step that was done for several requests at once, in the trace of each."""
    if tracing is not None:
        for parent in set(parents) - {""}:
            tracing.record(parent, name, times)


def _context(traceparent: str) -> Context:
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - as above
        TraceContextTextMapPropagator,
    )

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def _traceparent(span: Span) -> str:
    """Return what `_context` reads; empty for a span that is not sampled."""
    context = span.get_span_context()
    if not context.trace_flags.sampled:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
