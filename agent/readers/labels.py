"""What a label's value means: normal or anomalous."""

from __future__ import annotations

from agent.readers.values import is_missing, number
from agent.records import Label

DEFAULT_NORMAL = ("0", "normal", "-", "ham", "false")


def canonical(value: str) -> str:
    """The form in which label values are compared: ``0``, ``0.0`` and `` 0`` are one, so are ``HAM`` and ``ham``."""
    stripped = value.strip()
    as_number = number(stripped)
    return stripped.casefold() if as_number is None else str(as_number)


def label_of(value: str, normal: frozenset[str]) -> Label | None:
    """The label that ``value`` stands for, ``None`` when it stands for a missing one.

    ``normal`` holds canonical values; one that is listed there counts even if it looks missing (``NA``).
    """
    if canonical(value) in normal:
        return "normal"
    return None if is_missing(value) else "anomalous"
