"""What the OpenAPI schema says in words only, told to schemathesis: requests that break it are not generated."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import regex
import schemathesis

from agent.core.records import clean_text

_YEARS, _LONGEST_STEP = range(1000, 9000), 1e6


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Whether the body of a request keeps the rules in words, which are of series and of what is to be forgotten."""
    return all(_is_regular(value) and _is_pattern(value) for value in _objects(case.body))


def _is_pattern(value: dict[str, Any]) -> bool:
    """Whether an object says nothing to forget, or a text or a regular expression that not every record matches."""
    pattern = value.get("matching")
    if not isinstance(pattern, str):
        return True
    pattern = clean_text(pattern)
    if not pattern.strip() or value.get("regex") is not True:
        return bool(pattern.strip())
    try:
        return regex.compile(pattern).search("") is None
    except regex.error:
        return False


def _is_regular(value: dict[str, Any]) -> bool:
    """Whether an object is no series, or one with equally many values under each name, between two years."""
    if not {"start", "step", "values"} <= value.keys() or not isinstance(value["values"], dict):
        return True
    lengths = {len(values) for values in value["values"].values() if isinstance(values, list)}
    if len(lengths) > 1 or not isinstance(value["step"], int | float) or value["step"] > _LONGEST_STEP:
        return False
    start = value["start"]
    if not isinstance(start, str) or re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", start):
        return True
    try:
        return datetime.fromisoformat(start).year in _YEARS
    except ValueError:
        # of the calendar, a leap second
        return False


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        yield from itertools.chain.from_iterable(map(_objects, value.values()))
    elif isinstance(value, list):
        yield from itertools.chain.from_iterable(map(_objects, value))
