"""``server:app``: the HTTP application, for uvicorn and other ASGI servers."""

from __future__ import annotations

from typing import Any

from agent.api.app import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    """``app`` is created on first use, so that importing this module opens nothing."""
    if name == "app":
        globals()["app"] = create_app()
        return globals()["app"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
