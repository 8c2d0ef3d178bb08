"""Patterns that belong to one event: those that occur together, and runs of patterns that are seen nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from agent.bulk.unlabelled.scoring import Positions

# records between two that occur together; how alike the counts of two patterns are then, and the share of occurrences
_NEAR, _ALIKE, _TOGETHER = 10, 0.7, 0.9
# patterns that are compared with each by the order in which they appear first
_NEIGHBOURS = 40
# chance that a pattern is near by itself
_MOST_BY_CHANCE = 0.4
# a run: the fewest patterns, records and seconds between two, share of the records that are of them, how much of all
# records it may be, and one of its patterns may span
_FEWEST_IN_RUN, _RUN_GAP, _RUN_SECONDS, _RUN_DENSITY, _RUN_SHARE, _LOCAL = 4, 5, 120.0, 0.6, 0.25, 0.02
# how alike the addresses of two patterns are, and how many there must be
_SAME_ADDRESSES, _FEWEST_ADDRESSES, _FEWEST_WITH_ADDRESS = 0.6, 3, 5
# words that one pattern has in common with a longer one that begins with it
_FEWEST_WORDS = 5


def link(
    positions: Sequence[Positions],
    times: NDArray[np.float64] | None,
    addresses: Sequence[Mapping[int, int]],
    texts: Sequence[str],
    keep_apart: Sequence[bool],
) -> list[list[int]]:
    """Group n patterns to events.

    Parameters
    ----------
    positions : sequence of ndarray of int64
        By pattern: the places of its records.
    times : ndarray of float64 or None
        By record, in seconds.
    addresses : sequence of mapping of int to int
        By pattern: how often it has each address.
    texts : sequence of str
        By pattern: its text.
    keep_apart : sequence of bool
        By pattern: whether it stands for itself in a run.

    Returns
    -------
    list of list of int
        The patterns of each event.
    """
    links = _Links(len(positions))
    order = sorted(range(len(positions)), key=lambda number: int(positions[number][0]))
    records = sum(map(len, positions))
    _link_runs(links, positions, times, order, records, keep_apart)
    for place, first in enumerate(order):
        for second in order[place + 1 : place + 1 + _NEIGHBOURS]:
            if _occur_together(positions[first], positions[second], records):
                links.join(first, second)
    _link_addresses(links, addresses)
    _link_prefixes(links, texts)
    return links.groups()


class _Links:
    """Disjoint sets of patterns."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, first: int, second: int) -> None:
        """Put two patterns into one set."""
        first, second = sorted((self._root(first), self._root(second)))
        self._parent[second] = first

    def groups(self) -> list[list[int]]:
        """The sets."""
        found: dict[int, list[int]] = {}
        for number in range(len(self._parent)):
            found.setdefault(self._root(number), []).append(number)
        return list(found.values())


def _occur_together(first: Positions, second: Positions, records: int) -> bool:
    """Whether nearly each record of one pattern has one of the other near it, more often than by chance."""
    fewer, more = sorted((first, second), key=len)
    if len(fewer) < 2 or len(fewer) < _ALIKE * len(more) or len(more) * 2 * _NEAR > _MOST_BY_CHANCE * records:
        return False
    return _share_near(fewer, more) >= _TOGETHER and _share_near(more, fewer) >= _TOGETHER * _ALIKE


def _share_near(places: Positions, others: Positions) -> float:
    after = np.searchsorted(others, places)
    distance = np.minimum(
        np.abs(others[np.minimum(after, len(others) - 1)] - places), np.abs(places - others[np.maximum(after - 1, 0)])
    )
    return float((distance <= _NEAR).mean())


def _link_runs(
    links: _Links,
    positions: Sequence[Positions],
    times: NDArray[np.float64] | None,
    order: Sequence[int],
    records: int,
    keep_apart: Sequence[bool],
) -> None:
    """Join the patterns of a run of records, such as a start, that are seen in it and nowhere else."""
    most = max(_RUN_GAP * 2, _LOCAL * records)
    local = [number for number in order if positions[number][-1] - positions[number][0] <= most]
    run, end = list[int](), -1
    for number in [*local, -1]:
        start = int(positions[number][0]) if number >= 0 else -1
        continues = number >= 0 and run and start - end <= _RUN_GAP
        if continues and times is not None:
            continues = bool(times[start] - times[end] <= _RUN_SECONDS)
        if not continues:
            _close_run(links, run, positions, records, keep_apart)
            run, end = [], -1
        if number >= 0:
            run.append(number)
            end = max(end, int(positions[number][-1]))


def _close_run(
    links: _Links, run: Sequence[int], positions: Sequence[Positions], records: int, keep_apart: Sequence[bool]
) -> None:
    if len(run) < _FEWEST_IN_RUN:
        return
    first = min(int(positions[number][0]) for number in run)
    last = max(int(positions[number][-1]) for number in run)
    if not _RUN_DENSITY * (last - first + 1) <= sum(len(positions[number]) for number in run) <= _RUN_SHARE * records:
        return
    for number, following in pairwise([number for number in run if not keep_apart[number]]):
        links.join(number, following)


def _link_addresses(links: _Links, addresses: Sequence[Mapping[int, int]]) -> None:
    """Join patterns that have the same addresses, each about as often."""
    having = [
        number
        for number, counts in enumerate(addresses)
        if len(counts) >= _FEWEST_ADDRESSES and sum(counts.values()) >= _FEWEST_WITH_ADDRESS
    ]
    for index, first in enumerate(having):
        for second in having[index + 1 :]:
            counts, others = addresses[first], addresses[second]
            common = sum(min(count, others.get(address, 0)) for address, count in counts.items())
            union = sum(counts.values()) + sum(others.values()) - common
            if common >= _SAME_ADDRESSES * union:
                links.join(first, second)


def _link_prefixes(links: _Links, texts: Sequence[str]) -> None:
    """Join a pattern and the longer ones that begin with it: the same message with something added."""
    ordered = sorted(range(len(texts)), key=lambda number: texts[number])
    for place, number in enumerate(ordered):
        text = texts[number]
        if sum(word.isalpha() for word in text.replace("=", " ").split()) < _FEWEST_WORDS:
            continue
        for other in ordered[place + 1 :]:
            if not texts[other].startswith(text):
                break
            links.join(number, other)
