"""A made-up shop's log, labelled as `precedent learn --format log --label 0 --normal -` reads it."""

from __future__ import annotations

BRIEF = (
    "The log of a web shop. Requests that are served, baskets and payments are normal; "
    "failures of the disk, the database or the payment provider are anomalous."
)

_NORMAL = (
    "GET /basket/{n} 200 in {m} ms",
    "user {n} logged in from 10.0.0.{m}",
    "payment of order {n} accepted by provider",
    "cache refreshed, {n} entries in {m} ms",
    "mail to customer {n} queued",
    "health check passed in {m} ms",
)
_ANOMALOUS = (
    "disk failure on sd{n}: input/output error, {m} sectors lost",
    "database connection refused after {m} attempts",
    "payment provider timed out for order {n}, money not captured",
    "out of memory: process {n} killed",
)
LOG = "".join(
    f"{label} {text.format(n=1000 + 7 * i, m=2 + i)}\n"
    for i in range(6)
    for label, texts in (("-", _NORMAL), ("FAULT", _ANOMALOUS))
    for text in texts
)
"""60 lines, 36 of them normal."""

NORMAL = "GET /basket/4711 200 in 12 ms"
ANOMALOUS = "disk failure on sd77: input/output error, 9 sectors lost"
NEW = "warehouse robot 12 reports that its gripper does not close"
"""Nothing like it was ever seen: the language model is asked."""
