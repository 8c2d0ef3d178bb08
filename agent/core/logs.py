"""Logging: one line an event on standard error, for people or as JSON; silent until it is configured."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
# uvicorn's own events go to the same handler
_LOGGERS = ("precedent", "uvicorn")

_logger = logging.getLogger("precedent")
_logger.addHandler(logging.NullHandler())


def configure_logging(level: LogLevel, format: LogFormat) -> None:
    """Write events of ``level`` and above to standard error; a second call replaces the first."""
    import structlog

    def traceback_text(exc_info: Any) -> str:
        return _format_traceback(exc_info[1], with_message=level == "debug")

    render: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if format == "json":
        render.append(structlog.processors.ExceptionRenderer(traceback_text))
        render.append(structlog.processors.JSONRenderer(ensure_ascii=False))
    else:
        render.append(
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                pad_event_to=0,
                # quoted, so that nothing that a client sends begins a line or colours it
                repr_native_str=True,
                exception_formatter=lambda out, exc_info: print("\n" + traceback_text(exc_info), end="", file=out),
            )
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=render,
        )
    )
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    _logger.setLevel(level.upper())
    logging.getLogger().addFilter(_without_text)


def _without_text(record: logging.LogRecord) -> bool:
    """Take the text out of what a library logs without a logger of its own, as MCP's does with whole messages."""
    record.msg, record.args = "a library's message is not shown: it may quote a record", ()
    return True


def log_event(event: str, level: LogLevel = "info", **fields: Any) -> None:
    """Log one event; ``fields`` are its keys and values and never hold the text of a record."""
    _logger.log(getattr(logging, level.upper()), event, extra=fields)


def log_error(event: str, error: BaseException, **fields: Any) -> None:
    """Log an unexpected error with its traceback; its message, which may quote a record, only at level debug."""
    _logger.error(event, extra=fields, exc_info=error)


def _format_traceback(error: BaseException, *, with_message: bool) -> str:
    if with_message:
        return "".join(traceback.format_exception(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{_format_traceback(earlier, with_message=False)}\nafter which:\n\n" if earlier else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{before}Traceback (most recent call last):\n{frames}{type(error).__module__}.{type(error).__qualname__}\n"


@contextmanager
def timed_event(event: str, **fields: Any) -> Iterator[None]:
    """Log the event when the block is done, with the milliseconds that it took."""
    started = time.perf_counter()
    yield
    log_event(event, ms=round(1e3 * (time.perf_counter() - started)), **fields)
