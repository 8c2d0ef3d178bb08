"""Errors as HTTP answers: JSON, ``{"detail": …}``."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from agent.api.roles import routes_of
from agent.core.errors import EXPECTED, Busy, translate
from agent.core.logs import log_event
from agent.core.records import clean_text
from agent.core.requests import error_location, plain_message


def add_error_handlers(app: FastAPI) -> None:
    """Answer expected errors with their messages; the middleware answers the others."""
    for kind in EXPECTED:
        app.add_exception_handler(kind, _on_expected)
    app.add_exception_handler(405, _on_wrong_method)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    for invalid in (ValidationError, RequestValidationError):
        app.add_exception_handler(invalid, _on_invalid)


def _on_expected(_: Request, error: Exception) -> JSONResponse:
    expected = translate(error)
    assert expected is not None
    if expected.http_status >= 500:
        log_event("a needed part is missing", "error", reason=str(expected))
    headers = {"Retry-After": str(expected.seconds)} if isinstance(expected, Busy) else None
    return JSONResponse({"detail": clean_text(str(expected))}, expected.http_status, headers)


def _on_wrong_method(request: Request, _: Exception) -> JSONResponse:
    # a route knows only its own methods, of a path that has several routes
    routes = [route for route in routes_of(request.app) if route.matches(request.scope)[0] is not Match.NONE]
    allowed = {method for route in routes for method in getattr(route, "methods", None) or ()}
    detail = f"{request.method} is no method of this path: it has {', '.join(sorted(allowed))}"
    return JSONResponse({"detail": detail}, 405, {"Allow": ", ".join(sorted(allowed))})


def _on_disconnect(_: Request, __: Exception) -> Response:
    # for the log only, as nginx has it: the client has gone
    return Response(status_code=499)


def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, (ValidationError, RequestValidationError))
    # without the input, which may have values that JSON has not
    details = [
        {"loc": error_location(detail["loc"]), "msg": plain_message(detail["msg"]), "type": detail["type"]}
        for detail in error.errors()
    ]
    return JSONResponse({"detail": details}, 422)
