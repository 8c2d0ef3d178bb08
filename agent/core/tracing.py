"""Spans of the steps of judging, sent to a collector that the user names; without one nothing is recorded.

A span has a step's name and counts, never the text of a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from agent.core.logs import log_event

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Tracer

P = ParamSpec("P")
T = TypeVar("T")
_SECONDS = 10.0
_TRACES_PATH = "/v1/traces"
_tracer: Tracer | None = None


def span(name: str, **attributes: str | int) -> AbstractContextManager[Any]:
    """A span around a block; without tracing it costs nothing."""
    if _tracer is None:
        return nullcontext()
    return _tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    )


def traced(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A span around each call of a function, with the number of records where its first argument is a sequence."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if _tracer is None:
                return function(*args, **kwargs)
            counted = {"records": len(args[1])} if len(args) > 1 and isinstance(args[1], Sequence) else {}
            with span(name, **counted):
                return function(*args, **kwargs)

        return call

    return decorate


@contextmanager
def tracing(endpoint: str | None) -> Iterator[None]:
    """Within it, spans are sent to a collector from a thread of its own; at its end those that are left.

    Parameters
    ----------
    endpoint : str or None
        The collector's URL for OTLP over HTTP, such as ``http://127.0.0.1:4318``; None: nothing is recorded.
    """
    global _tracer
    if endpoint is None:
        yield
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "precedent", "service.version": version("precedent-agent")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(endpoint.rstrip("/") + _TRACES_PATH)))
    _tracer = provider.get_tracer("precedent")
    try:
        yield
    finally:
        _tracer = None
        provider.shutdown()


def _exporter(url: str) -> SpanExporter:
    import httpx
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Exporter(SpanExporter):
        """Posts spans as protobuf; says once that the collector does not take them, and once that it does again."""

        def __init__(self) -> None:
            self._client, self._failed = httpx.Client(timeout=_SECONDS), False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            body = encode_spans(spans).SerializeToString()
            try:
                self._client.post(
                    url, content=body, headers={"content-type": "application/x-protobuf"}
                ).raise_for_status()
            except httpx.HTTPError as error:
                if not self._failed:
                    log_event("traces are not sent", "warning", reason=str(error).splitlines()[0], url=url)
                self._failed = True
                return SpanExportResult.FAILURE
            if self._failed:
                log_event("traces are sent again", url=url)
            self._failed = False
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            self._client.close()

    return Exporter()
