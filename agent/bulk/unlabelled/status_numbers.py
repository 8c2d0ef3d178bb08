"""Numbers that are states rather than counts: status and exit codes, by the words before them and their few values."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from retrieval.text.kept_numbers import KeptNumbers, KeptPlace, placed_numbers

_HINT = re.compile(r"HTTP/|status|code|exit|errno|\brc\b|signal|event_?id", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,4}")
# fewest lines that have a place, most values of it, and most places
_FEWEST, _MOST_VALUES, _MOST_PLACES = 20, 40, 4
_VALUES = frozenset(map(str, range(1_000)))


def find_status_numbers(lines: Iterable[str]) -> KeptNumbers:
    """The places of such numbers in some lines; masking keeps what stands there.

    >>> [place for place, _ in find_status_numbers([f'"GET /{n} HTTP/1.1" {n % 2 + 200} {n}' for n in range(40)])]
    ['HTTP/<n>" ']
    """
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        for number in placed_numbers(line):
            if _HINT.search(number.place):
                values[number.place][number.value] += 1
    places = [
        (place, counts)
        for place, counts in values.items()
        if counts.total() >= _FEWEST
        and 2 <= len(counts) <= min(_MOST_VALUES, counts.total() // 4)
        and all(map(_NUMBER.fullmatch, counts))
    ]
    places.sort(key=lambda item: (-item[1].total(), item[0]))
    return tuple(KeptPlace(place, _VALUES.union(counts)) for place, counts in places[:_MOST_PLACES])
