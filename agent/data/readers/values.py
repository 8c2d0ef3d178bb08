"""Cells to typed values, and label values to labels."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal

from agent.core.records import FieldValue, Label
from retrieval.lru_cache import cached

Cell = str | int | float | bool | None
DEFAULT_NORMAL = ("0", "normal", "-", "ham", "false")

_MISSING = frozenset({"", "nan", "na", "null"})
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
LONGEST_NUMBER = 64
_MINUS = "\u2212"
# whole numbers below it are exact as floats
_EXACT = 2**53
_PAIR_NAME = re.compile(r"[^\W\d][\w.\-/]*")


def parse_number(value: str) -> float | None:
    """``value`` as a number, ``None`` if it is not written as one (``1_000`` and ``inf`` are words)."""
    stripped = value.strip().replace(_MINUS, "-")
    return float(stripped) if len(stripped) <= LONGEST_NUMBER and NUMBER.fullmatch(stripped) else None


def is_missing(cell: str) -> bool:
    """Whether a cell stands for no value."""
    return cell.strip().casefold() in _MISSING


def typed(cell: Cell) -> FieldValue:
    """The value of a cell as a field: numbers as float, ``true``/``false`` as bool, missing as ``None``."""
    if isinstance(cell, str):
        return _typed_text(cell) if len(cell) <= LONGEST_NUMBER else cell.strip() or None
    if cell is None or isinstance(cell, bool):
        return cell
    try:
        return float(cell)
    except OverflowError:
        return "inf"


@cached(1 << 16)  # cells repeat: this halves the time of a table
def _typed_text(cell: str) -> FieldValue:
    stripped = cell.strip()
    if stripped.casefold() in _MISSING:
        return None
    number = parse_number(stripped)
    return {"true": True, "false": False}.get(stripped.casefold(), stripped) if number is None else number


def to_text(cell: Cell) -> str:
    """A cell as it stands in a text; booleans as JSON writes them, a missing one as nothing."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int):
        # More digits than Python's conversion limit can only come from a binary format; a float says enough.
        return str(cell) if cell.bit_length() < 4_096 else "inf"
    return str(cell)


def to_time(cell: Cell) -> str | None:
    """The time of a record from its cell; None for an empty one."""
    return to_text(cell).strip() or None


def split_pairs(text: str, known: Collection[str] = ()) -> dict[str, str]:
    """The names and values of a text of the form ``name is value name is value …``; none if it has another form.

    The form is exact (one word a value, no name twice, at least two pairs), so that prose is not taken for it. A text
    that begins with a ``known`` name may have several words in names that are known, and in their values.
    """
    if " is " not in text:
        return {}
    return _pairs_of_words(text) or (_pairs_of_names(text, tuple(known)) if known else {})


def _pairs_of_words(text: str) -> dict[str, str]:
    words = text.split()
    names = words[0::3]
    if len(words) < 6 or len(words) % 3 or any(word != "is" for word in words[1::3]):
        return {}
    if len(set(names)) < len(names) or not all(_PAIR_NAME.fullmatch(name) for name in names):
        return {}
    return dict(zip(names, words[2::3], strict=True))


def _pairs_of_names(text: str, known: tuple[str, ...]) -> dict[str, str]:
    first, *parts = _known_name(known).split(text.strip())
    names, values = parts[0::2], parts[1::2]
    return {} if first or len(set(names)) < len(names) else dict(zip(names, map(str.strip, values), strict=True))


@cached(64)
def _known_name(known: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    return re.compile(rf"(?:^|(?<=\s))({names}) is(?=\s)")


def spell_out(fields: Mapping[str, FieldValue]) -> str:
    """The text of a row: ``name is value …``, without missing values; the same for equal values, however written."""
    return " ".join(f"{name} is {spell_value(value)}" for name, value in fields.items() if value is not None)


def spell_value(value: FieldValue) -> str:
    """A value as the text of a row has it."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXACT
    return str(int(value)) if isinstance(value, float) and whole else to_text(value).strip()


def normalise_label(value: str) -> str:
    """The form in which label values are compared: ``0``, ``0.0`` and `` 0`` are one, so are ``HAM`` and ``ham``."""
    number = parse_number(value)
    if number is None:
        return value.strip().casefold()
    if not number.is_integer() or abs(number) < _EXACT:
        return str(number)
    # floats are the same for neighbouring whole numbers beyond 2**53
    return str(int(Decimal(value.strip().replace(_MINUS, "-"))))


def to_label(value: str, normal: frozenset[str]) -> Label | None:
    """The label that ``value`` stands for, ``None`` if it stands for a missing one.

    ``normal`` holds normalised values; one that is listed there counts even if it looks missing (``NA``).
    """
    if normalise_label(value) in normal:
        return "normal"
    return None if value.strip().casefold() in _MISSING else "anomalous"
