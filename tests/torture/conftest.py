"""Tests of the promises in docs/promises.md: short in a usual run, long by ``make torture``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Protocol

import pytest

from tests.served import copy_of, learned

__all__ = ["copy_of", "learned"]


class Figures(Protocol):
    """Records what a test of a promise has measured, for docs/promises.md."""

    def __call__(self, promise: str, **figures: object) -> None: ...


@pytest.fixture(scope="session")
def is_long() -> bool:
    """Whether this is ``make torture``."""
    return "PRECEDENT_TORTURE" in os.environ


@pytest.fixture(scope="session")
def seconds(is_long: bool) -> float:
    """For how long a server is loaded (``python -m tests.torture --seconds 7200 test_soak.py``)."""
    return float(os.environ.get("TORTURE_SECONDS", 300 if is_long else 10))


@pytest.fixture(scope="session")
def figures() -> Figures:
    def record(promise: str, **figures: object) -> None:
        from tests.torture.promises import PROMISES

        assert promise in PROMISES, "a promise that docs/promises.md does not make"
        if file := os.environ.get("PRECEDENT_TORTURE"):
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"promise": promise, "figures": figures}) + "\n")

    return record
