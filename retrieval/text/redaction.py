"""Secrets and personal data of records, replaced by placeholders before anything is stored or prompted.

The same value has the same placeholder in all records of a source, so that a category stays a category, and masking
(`retrieval.text.masking`) makes one template of records that differ in such values alone. A placeholder holds ten
digits of a keyed hash (HMAC-SHA256, RFC 2104): without the key it says nothing of the value, and nothing undoes it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from retrieval.text.redaction_finders import FINDERS, PLACEHOLDER, Found
from retrieval.text.redaction_names import is_phone_name, is_secret_name, is_state, is_weak_name, looks_secret
from retrieval.text.redaction_numbers import is_card, phone_key
from retrieval.text.redaction_patterns import SUSPECT

if TYPE_CHECKING:
    import polars as pl

KINDS = tuple(FINDERS)
# an address of a machine is what many logs are about: it goes only where it is asked for
DEFAULT_KINDS = tuple(kind for kind in KINDS if kind != "ip")
_DIGITS = 10
_PHONE = re.compile(r"\+?[0-9 ()./\u00a0-]{7,24}")
_MOST_EXACT = 2**53
FieldValue = float | str | bool | None


class Redactor:
    """Replaces values of some kinds by placeholders such as ``<email:0123456789>``; doing it twice changes nothing.

    Parameters
    ----------
    kinds : collection of str
        Of `KINDS`.
    key : bytes
        Of the source; values have the same placeholders under the same key alone.

    Examples
    --------
    >>> redactor = Redactor(DEFAULT_KINDS, b"of the source")
    >>> redactor.text("login of ann@example.com failed") == redactor.text("login of Ann@example.com failed")
    True
    >>> redactor.text("password=hunter2")[:17]
    'password=<secret:'
    """

    # no smaller number is one of a card
    LEAST_NUMBER = 1e11

    def __init__(self, kinds: Collection[str], key: bytes) -> None:
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise ValueError(f"no kinds that can be redacted: {', '.join(unknown)}; there are {', '.join(KINDS)}")
        self.kinds = tuple(kind for kind in KINDS if kind in kinds)
        self._key = key
        self._finders = [find for kind in self.kinds for find in FINDERS[kind]]

    def text(self, text: str) -> str:
        """A text with placeholders."""
        while True:
            redacted = text
            for find in self._finders:
                redacted = self._replaced(redacted, list(find(redacted)))
            if redacted == text:
                return text
            # what stands beside a placeholder may be read in another way now
            text = redacted

    def field(self, name: str, value: FieldValue) -> FieldValue:
        """The value of a field; one whose name says that it is secret has a placeholder as a whole."""
        if value is None or isinstance(value, bool):
            return value
        written = value if isinstance(value, str) else _spelled(value)
        if PLACEHOLDER.fullmatch(written.strip()):
            return value
        if "secret" in self.kinds and _is_secret_field(name, written, is_number=not isinstance(value, str)):
            return self.placeholder("secret", written.strip())
        digits = "".join(filter(str.isdigit, written))
        if (
            "phone" in self.kinds
            and is_phone_name(name)
            and _PHONE.fullmatch(written.strip())
            and 7 <= len(digits) <= 15
        ):
            return self.placeholder("phone", phone_key(digits, has_plus="+" in written))
        if isinstance(value, str):
            return self.text(value)
        is_exact = value.is_integer() and self.LEAST_NUMBER <= value < _MOST_EXACT
        return self.placeholder("card", written) if "card" in self.kinds and is_exact and is_card(written) else value

    def fields(self, fields: Mapping[str, FieldValue]) -> dict[str, FieldValue]:
        """The fields with placeholders, also in their names."""
        return {self.text(name): self.field(name, value) for name, value in fields.items()}

    @staticmethod
    def is_telling(name: str) -> bool:
        """Whether a field's name may be why its value is redacted, whatever the value is."""
        return is_secret_name(name) or is_weak_name(name) or is_phone_name(name)

    def suspects(self, texts: pl.Series) -> pl.Series:
        """Which of some texts may hold something to redact; no other does."""
        # one search for all kinds takes twice the time of one for each
        found = [texts.str.contains(SUSPECT[kind]) for kind in self.kinds]
        return reduce(or_, found).fill_null(value=False)

    def placeholder(self, kind: str, value: str) -> str:
        """What stands for a value."""
        digest = hmac.digest(self._key, f"{kind}\0{value}".encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"<{kind}:{int.from_bytes(digest[:8]) % 10**_DIGITS:0{_DIGITS}}>"

    def _replaced(self, text: str, found: list[Found]) -> str:
        if not found:
            return text
        parts, place = list[str](), 0
        taken = [match.span() for match in PLACEHOLDER.finditer(text)]
        for start, end, kind, key in sorted(found):
            if start < place or is_of_placeholder(start, end, taken):
                continue
            parts += [text[place:start], self.placeholder(kind, key)]
            place = end
        return "".join([*parts, text[place:]])


def _spelled(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < _MOST_EXACT else str(value)


def is_of_placeholder(start: int, end: int, taken: Sequence[tuple[int, int]]) -> bool:
    """Whether a part of a text is a placeholder, a part of one, or cuts one off; ``taken`` is where they are."""
    first = bisect_right(taken, start, key=lambda span: span[1])
    # a slice, as `islice` would walk to its first one
    inside = taken[first : bisect_left(taken, end, lo=first, key=lambda span: span[0])]
    if any(begins < start or end < ends for begins, ends in inside):
        return True
    return bool(inside) and sum(ends - begins for begins, ends in inside) == end - start


def _is_secret_field(name: str, value: str, *, is_number: bool) -> bool:
    if is_secret_name(name):
        return not is_state(value)
    return is_weak_name(name) and not is_number and not is_state(value) and looks_secret(value)
