"""How unusual each pattern of some records is: severity, rarity, bursts, first appearance, and change against others.

No part depends on one system's words: counts and places decide, and the level that a log line has of itself; words that
tell of errors are a weak prior where there is no level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
# occurrences within a burst: the fewest, and how much longer the next length that is tried is; its evidence in nats
# that counts in full
_FEWEST_IN_BURST, _NEXT_LENGTH, _FULL_BURST = 5, 1.5, 40.0
# what a word for an error counts without a level, and with one that says that the line is none
_WORD, _WORDS, _WORD_WITH_LEVEL = 0.5, 0.6, 0.45
_WEIGHTS = {"severity": 1.0, "rarity": 0.5, "burst": 0.35, "novelty": 0.35, "spread": 0.2, "change": 1.0, "volume": 0.6}
# how alike two events are from which on the later one loses, and what it loses at most
_ALIKE, _ALIKE_PENALTY = 0.4, 0.5
_OF_SEVERE = ("spread", "volume")


@dataclass(frozen=True)
class Burst:
    """The densest part of a pattern's occurrences.

    Attributes
    ----------
    evidence : float
        How much more likely so many there are at their rate in the burst than at the pattern's mean rate, in nats.
    count : int
        Occurrences in it.
    start, end : int
        Places of its first and last occurrence.
    """

    evidence: float
    count: int
    start: int
    end: int


def find_burst(positions: Positions, records: int, times: NDArray[np.float64] | None = None) -> Burst | None:
    """The burst of a pattern's occurrences among all records; None if there are too few.

    Parameters
    ----------
    positions : ndarray of int64, shape (k,)
        Places of its records, ascending.
    records : int
        How many there are of all patterns.
    times : ndarray of float64, optional
        By record, in seconds: the burst is then short as well.
    """
    total, length, best = len(positions), float(_FEWEST_IN_BURST), None
    span = float(times[-1] - times[0]) + 1.0 if times is not None else 0.0
    while length <= total:
        count = int(length)
        widths = positions[count - 1 :] - positions[: total - count + 1] + 1
        start = int(np.argmin(widths))
        first, last = int(positions[start]), int(positions[start + count - 1])
        shares = [int(widths[start]) / records]
        if times is not None:
            shares.append((float(times[last] - times[first]) + 1.0) / span)
        expected = total * min(max(shares), 1.0)
        evidence = count * math.log(count / expected) - (count - expected)
        if count > expected and (best is None or evidence > best.evidence):
            best = Burst(evidence, count, first, last)
        length *= _NEXT_LENGTH
    return best


def first_appearance(firsts: NDArray[np.int64], records: int) -> NDArray[np.float64]:
    """How surprising it is that each pattern appears where it first does, shape (n,), from 0 to 1.

    That is so where few new patterns came before, in the second half of the records up to there.
    """
    ordered = np.sort(firsts)
    half = firsts // 2
    before = np.searchsorted(ordered, firsts) - np.searchsorted(ordered, half)
    rate = (before + 1.0) / (firsts - half + 1.0)
    surprise = np.maximum(-np.log(np.minimum(rate, 1.0)) / math.log(max(records, 2)), 0.0)
    # at the beginning everything is new
    return surprise * np.clip(firsts / max(0.2 * records, 1.0), 0.0, 1.0)


def severity(level: float | None, error_words: int, status: float = 0.0) -> float:
    """From 0 to 1: that of the level or of the status, or of the words if they tell of more."""
    by_level = max(level or 0.0, status)
    if not error_words:
        return by_level
    return max(by_level, _WORD_WITH_LEVEL if level is not None else _WORDS if error_words > 1 else _WORD)


def rate_change(count: int, records: int, older_count: int, older_records: int) -> float:
    """How much more frequent a pattern is than in the older records, from 0 to 1, which is one that they lack."""
    if not older_count:
        return 1.0
    expected = max(older_count * records / max(older_records, 1), 0.5)
    if count <= 2 * expected:
        return 0.0
    evidence = count * math.log(count / expected) - (count - expected)
    return min(evidence / _FULL_BURST, 1.0) * 0.8


def score(parts: dict[str, float]) -> float:
    """The sum of the parts by their weights; how many records and addresses there are counts as far as it is severe."""
    severe = parts.get("severity", 0.0)
    return sum(_WEIGHTS[name] * value * (severe if name in _OF_SEVERE else 1.0) for name, value in parts.items())


def volume(records: int, all_records: int) -> float:
    """The part for an event's share of all records, from 0 to 1."""
    return math.sqrt(records / max(all_records, 1))


def parts_of(
    positions: Positions,
    records: int,
    times: NDArray[np.float64] | None,
    *,
    level: float | None,
    words: int,
    status: float,
    novelty: float,
    distinct: int,
) -> tuple[dict[str, float], Burst | None]:
    """The parts of one pattern's score, and its burst.

    Parameters
    ----------
    positions, records, times
        See `find_burst`.
    level, words, status
        See `severity`.
    novelty : float
        See `first_appearance`.
    distinct : int
        How many different addresses, users or names its records have.
    """
    burst = find_burst(positions, records, times)
    significant = burst is not None and burst.evidence > 2 * math.log(max(records, 2))
    parts = {
        "severity": severity(level, words, status),
        "rarity": math.log(records / len(positions)) / math.log(max(records, 2)),
        "burst": min(burst.evidence / _FULL_BURST, 1.0) if burst and significant else 0.0,
        "novelty": novelty,
        "spread": min(math.log2(max(distinct, 1)) / 5, 1.0),
    }
    return parts, burst if significant else None


def diversified(scores: Sequence[float], words: Sequence[frozenset[str]]) -> list[int]:
    """The order of n events by score, one that says much the same as an earlier one coming later.

    That is maximal marginal relevance (Carbonell & Goldstein 1998) with the Jaccard index of their words.

    Parameters
    ----------
    scores : sequence of float
    words : sequence of frozenset of str
        By event: the words that tell it from others.
    """
    remaining, order = list(range(len(scores))), list[int]()
    penalty = [0.0] * len(scores)
    while remaining:
        best = max(remaining, key=lambda number: (scores[number] - penalty[number], -number))
        remaining.remove(best)
        order.append(best)
        for number in remaining:
            union = len(words[number] | words[best])
            alike = len(words[number] & words[best]) / union if union else 0.0
            penalty[number] = max(penalty[number], _ALIKE_PENALTY * max(0.0, alike - _ALIKE) / (1 - _ALIKE))
    return order
