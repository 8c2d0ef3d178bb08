"""What a fault is, and the table of all of them.

A fault does something real to the server and declares the messages that this causes; it never prints a line
itself. `recurring` faults happen in both parts of the recording, the others only in the part to be judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg

from .cluster import Cluster, RecorderError

Injection = Callable[[Cluster, Random], None]


@dataclass(frozen=True)
class Fault:
    """One kind of fault: its name is the label, `patterns` match the start of the messages it causes."""

    kind: str
    inject: Injection
    patterns: tuple[str, ...]


def must_fail(connection: psycopg.Connection[Any], query: str) -> None:
    """Run a statement that has to fail: a fault that did not happen must not be recorded as one."""
    try:
        connection.execute(query.encode())
    except psycopg.Error:
        return
    raise RecorderError(f"this statement was meant to fail and did not: {query}")


def must_be_refused(cluster: Cluster, user: str, database: str = "shop", **options: Any) -> None:
    """Open a session that has to be refused."""
    try:
        cluster.connect(user, database, **options).close()
    except psycopg.OperationalError as error:
        if "FATAL" in str(error):
            return
        raise
    raise RecorderError(f"the session of {user} on {database} was meant to be refused and was not")
