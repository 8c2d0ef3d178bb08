"""The role that each route needs: declared where it is defined, read by the guard and the API's documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from agent.core.access import Role

_ATTRIBUTE, _SCHEME = "required_role", "API key"
F = TypeVar("F", bound=Callable[..., Any])


def needs(role: Role) -> Callable[[F], F]:
    """A decorator of a route's function that declares the least role a key must have for it."""

    def declared(function: F) -> F:
        setattr(function, _ATTRIBUTE, role)
        return function

    return declared


def declare(route: BaseRoute, role: Role) -> None:
    """Declare the role of a route that is no function of ours."""
    setattr(route, _ATTRIBUTE, role)


def declared_role(route: BaseRoute) -> Role | None:
    """The role that a route needs, None where it declares none."""
    role = getattr(route, _ATTRIBUTE, None)
    return getattr(getattr(route, "endpoint", None), _ATTRIBUTE, None) if role is None else role


def routes_of(app: FastAPI) -> Iterator[BaseRoute]:
    """All routes of the application; those of a router that it includes one by one, with their whole paths."""
    for route in app.router.routes:
        # no router here is included with a prefix
        included = getattr(route, "original_router", None)
        yield from [route] if included is None else included.routes


def needed_role(app: FastAPI, scope: Scope) -> Role:
    """The role that a request needs.

    That of a route that declares none is the highest; where there is no route, any key may learn so.
    """
    for route in routes_of(app):
        if route.matches(scope)[0] is Match.FULL:
            role = declared_role(route)
            return Role.ADMIN if role is None else role
    return Role.READ


def add_security(app: FastAPI, schema: dict[str, Any], *, is_open: bool) -> None:
    """Say in the OpenAPI schema how a key is sent, and which role each operation needs; none where it is open."""
    schema.setdefault("components", {})["securitySchemes"] = {
        _SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "`Authorization: Bearer KEY`, where the server has keys: `PRECEDENT_API_KEY`, or one of "
            "`precedent keys add NAME --role ROLE`. The role that an operation needs is listed with it; the roles are "
            f"{', '.join(role.word for role in Role if role is not Role.PUBLIC)}, each may do all that those before it "
            "may.",
        }
    }
    for route in routes_of(app):
        operations = schema["paths"].get(getattr(route, "path", None), {})
        for method in getattr(route, "methods", None) or ():
            if (operation := operations.get(method.lower())) is not None:
                role = declared_role(route)
                needed = {_SCHEME: [(role or Role.ADMIN).word]}
                operation["security"] = [] if role is Role.PUBLIC else [{}, needed] if is_open else [needed]
