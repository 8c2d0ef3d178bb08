"""What the order and the counts of a session's events say, told from normal sessions alone.

Three numbers are made of a session: the worst and the mean surprise of a step by a next-event model (Witten-Bell
n-grams, Witten & Bell 1991; the role that DeepLog, Du et al. 2017, gives to a neural network), and the worst surprise
of how often an event occurs. Wherever learning uses them they are cross-fitted: no session is judged by tables that
contain it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.detectors.conformal import ConformalTail
from retrieval.text.masking import kind_of_event

# events of context; events with a code of their own (the rest share one); of these, events whose count is heard
_ORDER, _KNOWN, _COUNTED = 4, 1_000, 127
_BUCKETS, _DECAY = 64, 0.8
_FOLDS, _SEED = 5, 20_26
# tables are fitted on a seeded sample of sessions with about so many events; a session counts up to so often
_FIT_EVENTS, _MOST_TIMES = 2_000_000, 1_000
# 10 bits an event: the context and the event itself fit 64 bits
_BASE = np.uint64(1_024)
_EDGE, _OTHER = 0, 1
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
NUMBERS = 3


@dataclass(frozen=True)
class NextEvent:
    """P(event | context) = (c + T·P(event | shorter context)) / (n + T), T the kinds of event seen after it.

    ``tables``: by length of context, its codes, n and T, and the codes of context and event with their counts c.
    """

    known: int
    tables: tuple[tuple[NDArray[Any], ...], ...]

    @classmethod
    def fit(cls, sessions: Sequence[Ids], known: int) -> NextEvent:
        event, contexts, _ = _steps(sessions)
        tables = []
        for context in contexts:
            grams, counts = np.unique(context * _BASE + event, return_counts=True)
            seen, first = np.unique(grams // _BASE, return_index=True)
            tables.append((seen, np.add.reduceat(counts, first), np.diff(np.append(first, len(grams))), grams, counts))
        return cls(known, tuple(tables))

    def surprise(self, sessions: Sequence[Ids]) -> tuple[Floats, NDArray[np.bool_], Ids]:
        """Each step's -log P, whether its event never follows the one before it, and the step's session."""
        event, contexts, own = _steps(sessions)
        p = np.full(len(event), 1 / (self.known + 2))
        never = np.zeros(len(event), bool)
        for length, (seen, totals, kinds, grams, counts) in enumerate(self.tables):
            at, has = _find(seen, contexts[length])
            gram, met = _find(grams, contexts[length] * _BASE + event)
            c = np.where(met, counts[gram], 0)
            p = np.where(has, (c + kinds[at] * p) / (totals[at] + kinds[at]), p)
            never = ~met if length == 1 else never
        return -np.log(p), never, own


@dataclass(frozen=True)
class CountProfile:
    """How often each event occurs in a normal session: the shares of count buckets, shape (events, buckets)."""

    shares: Floats
    low: Ids
    high: Ids

    @classmethod
    def fit(cls, counts: Ids) -> CountProfile:
        seen = np.stack([np.bincount(column, minlength=_BUCKETS) for column in _bucket(counts).T]).astype(float)
        kinds = (seen > 0).sum(axis=1, keepdims=True)
        # Witten-Bell again; what is yet to come is the rarer, the farther from the counts that were seen
        places = np.arange(_BUCKETS)
        away = np.stack([np.abs(places[:, None] - np.flatnonzero(row)).min(axis=1) for row in seen])
        base = _DECAY**away
        shares = (seen + kinds * base / base.sum(axis=1, keepdims=True)) / (len(counts) + kinds)
        return cls(shares, counts.min(axis=0), counts.max(axis=0))

    def surprise(self, counts: Ids) -> Floats:
        return np.asarray(-np.log(self.shares[np.arange(counts.shape[1])[None], _bucket(counts)]))


@dataclass(frozen=True)
class _Tables:
    """Both models of normal sessions; their three numbers of any session."""

    steps: NextEvent
    profile: CountProfile

    @classmethod
    def fit(cls, sessions: Sequence[Ids], times: Ids, known: int) -> _Tables:
        often = [session for i in _sample(sessions, times) for session in [sessions[i]] * min(times[i], _MOST_TIMES)]
        return cls(NextEvent.fit(often, known), CountProfile.fit(_counts(often, known)))

    def numbers(self, sessions: Sequence[Ids]) -> Floats:
        surprise, _, own = self.steps.surprise(sessions)
        first = np.flatnonzero(np.diff(own, prepend=-1))
        worst, total = np.maximum.reduceat(surprise, first), np.add.reduceat(surprise, first)
        counted = self.profile.surprise(_counts(sessions, self.steps.known)).max(axis=1)
        return np.stack([worst, total / np.bincount(own), counted], axis=1)


@dataclass(frozen=True)
class SequenceModel:
    """The detector: codes of the events, tables, and the tails of the three numbers and of their sum."""

    codes: dict[str, int]
    tables: _Tables
    tails: tuple[ConformalTail, ...]

    @classmethod
    def fit(
        cls, sessions: Sequence[Sequence[str]], times: NDArray[np.int64], anomalous: NDArray[np.bool_]
    ) -> tuple[SequenceModel, Floats, Floats]:
        """The detector, made of the normal sessions; for each session its numbers and log-odds as if unseen."""
        codes = _vocabulary(sessions)
        ids = [_encode(codes, session) for session in sessions]
        numbers = _cross_fitted(ids, times, anomalous, len(codes))
        normal = np.flatnonzero(~anomalous)
        tails = tuple(ConformalTail.of(column, times[normal]) for column in numbers[normal].T)
        together = ConformalTail.of(_together(tails, numbers[normal]), times[normal])
        tables = _Tables.fit([ids[i] for i in normal], times[normal], len(codes))
        fitted = cls(codes, tables, (*tails, together))
        return fitted, numbers, fitted.oddness(numbers)

    def numbers(self, sessions: Sequence[Sequence[str]]) -> Floats:
        """Worst and mean surprise of a step, worst surprise of a count: shape (n, 3), in nats."""
        return self.tables.numbers([_encode(self.codes, session) for session in sessions])

    def log_odds(self, rows: Sequence[Any], sessions: Sequence[Sequence[str]]) -> Floats:
        return self.oddness(self.numbers(sessions))

    def oddness(self, numbers: Floats) -> Floats:
        """The log-odds of sessions with these `numbers`, shape (n,)."""
        return self.tails[-1].log_odds(_together(self.tails[:-1], numbers))

    def facts(self, session: Sequence[str]) -> list[str]:
        """The step that surprises most."""
        ids = _encode(self.codes, session)
        surprise, never, _ = self.tables.steps.surprise([ids])
        worst = int(np.argmax(np.where(never, surprise + 1e3, surprise)))
        before = f"“{session[worst - 1]}”" if worst else "the start"
        what = f"“{session[worst]}”" if worst < len(session) else "the end"
        if never[worst]:
            return [f"after {before} came {what}, which never follows it in normal cases"]
        if surprise[worst] > math.log(100):
            return [f"after {before} came {what}, which normal cases seldom have there"]
        return []

    def state(self) -> dict[str, Any]:
        """What `from_state` makes it of again."""
        profile = self.tables.profile
        return {
            "codes": self.codes,
            "tables": [list(arrays) for arrays in self.tables.steps.tables],
            "profile": [profile.shares, profile.low, profile.high],
            "tails": [tail.values for tail in self.tails],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SequenceModel:
        steps = NextEvent(len(state["codes"]), tuple(tuple(arrays) for arrays in state["tables"]))
        tables = _Tables(steps, CountProfile(*state["profile"]))
        return cls(state["codes"], tables, tuple(ConformalTail(values) for values in state["tails"]))


def _vocabulary(sessions: Sequence[Sequence[str]]) -> dict[str, int]:
    """The events that most sessions have, masked, to codes from 2."""
    seen: Counter[str] = Counter(event for session in sessions for event in {kind_of_event(event) for event in session})
    ranked = sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:_KNOWN]
    return {event: i + 2 for i, (event, _) in enumerate(ranked)}


def _encode(codes: Mapping[str, int], session: Sequence[str]) -> Ids:
    kinds = {event: kind_of_event(event) for event in set(session)}
    return np.fromiter((codes.get(kinds[event], _OTHER) for event in session), np.int64, len(session))


def _steps(sessions: Sequence[Ids]) -> tuple[NDArray[np.uint64], NDArray[np.uint64], Ids]:
    """Each step's event, its contexts of 0 to 4 events as codes, and its session; every session ends in an edge."""
    pad = np.zeros(_ORDER, np.int64)
    flat = np.concatenate([part for session in sessions for part in (pad, session, pad[:1])]).astype(np.uint64)
    sizes = np.array([len(session) + _ORDER + 1 for session in sessions])
    own = np.repeat(np.arange(len(sessions)), sizes)
    at = np.arange(len(flat))
    step = at - np.repeat(np.cumsum(sizes) - sizes, sizes) >= _ORDER
    at = at[step]
    contexts = np.zeros((_ORDER + 1, len(at)), np.uint64)
    for length in range(1, _ORDER + 1):
        contexts[length] = contexts[length - 1] + flat[at - length] * _BASE ** np.uint64(length - 1)
    return flat[at], contexts, own[step]


def _find(table: NDArray[np.uint64], keys: NDArray[np.uint64]) -> tuple[Ids, NDArray[np.bool_]]:
    at = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return at, table[at] == keys


def _bucket(counts: Ids) -> Ids:
    """0 to 5 as they are, then four buckets a doubling."""
    far = 5 + np.ceil(4 * np.log2(np.maximum(counts, 5) / 5))
    return np.minimum(np.where(counts <= 5, counts, far), _BUCKETS - 1).astype(np.int64)


def _counts(sessions: Sequence[Ids], known: int) -> Ids:
    """How often each counted event occurs, unknown ones first: shape (n, events)."""
    width = min(known + 1, _COUNTED)
    return np.stack([np.bincount(session, minlength=width + 1)[1 : width + 1] for session in sessions])


def _sample(sessions: Sequence[Ids], times: Ids) -> Ids:
    order = np.random.default_rng(_SEED).permutation(len(sessions))
    sizes = np.cumsum([len(sessions[i]) * min(times[i], _MOST_TIMES) for i in order])
    return order[: max(1, int(np.searchsorted(sizes, _FIT_EVENTS)))]


def _together(tails: Sequence[ConformalTail], numbers: Floats) -> Floats:
    return np.asarray(np.sum([tail(column) for tail, column in zip(tails, numbers.T, strict=True)], axis=0))


def _cross_fitted(ids: Sequence[Ids], times: Ids, anomalous: NDArray[np.bool_], known: int) -> Floats:
    """Each session's three numbers by tables of the other folds' normal sessions."""
    fold = np.zeros(len(ids), np.int64)
    rng = np.random.default_rng(_SEED)
    for label in (False, True):
        mine = np.flatnonzero(anomalous == label)
        fold[rng.permutation(mine)] = np.arange(len(mine)) % _FOLDS
    out = np.zeros((len(ids), NUMBERS))
    for one in np.unique(fold):
        learn, judge = np.flatnonzero((fold != one) & ~anomalous), np.flatnonzero(fold == one)
        tables = _Tables.fit([ids[i] for i in learn.tolist()], times[learn], known)
        out[judge] = tables.numbers([ids[i] for i in judge.tolist()])
    return out
