"""Outlier scores of sessions by the order and the counts of their events, learned from normal sessions alone.

A session has three scores: the greatest and the mean surprise of a step by a next-event model (Witten-Bell n-grams,
Witten & Bell 1991, where DeepLog, Du et al. 2017, has a neural network), and the greatest surprise of an event's count.
Other models that learn from them get cross-fitted scores: by tables that do not contain the session.
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
from retrieval.arrays import Bools, Floats, Ints
from retrieval.encoding.session_block import SessionBlock
from retrieval.text.masking import kind_of_event

# events of context; events with a code of their own (the rest share one); of these, events that are counted
_ORDER, _KNOWN, _COUNTED = 4, 1_000, 127
_BUCKETS, _DECAY = 64, 0.8
_FOLDS, _SEED = 5, 20_26
# tables are fitted on a seeded sample of sessions with about so many events; a session counts at most so often
_FIT_EVENTS, _MAX_TIMES = 2_000_000, 1_000
# 10 bits an event: the context and the event itself fit 64 bits
_BASE = np.uint64(1_024)
_EDGE, _OTHER = 0, 1
Ids = NDArray[np.int64]
NUMBERS = 3


@dataclass(frozen=True)
class EncodedSessions:
    """The events of n sessions by their codes.

    Parameters
    ----------
    codes : shape (events,)
        Of one session after the other.
    sizes : shape (n,)
        Number of events of each session.
    """

    codes: Ids
    sizes: Ids

    @classmethod
    def of(cls, sessions: Sequence[Ids]) -> EncodedSessions:
        """Of n sessions, each of shape (events,)."""
        sizes = np.array([len(session) for session in sessions], np.int64)
        return cls(np.concatenate([np.zeros(0, np.int64), *sessions]), sizes)


@dataclass(frozen=True)
class NextEvent:
    """P(event | context) = (c + T·P(event | shorter context)) / (n + T), T the kinds of event seen after it.

    Parameters
    ----------
    known : int
        Number of events with a code of their own.
    tables : tuple
        By length of context: its codes, n and T, and the codes of context and event with their counts c.
    """

    known: int
    tables: tuple[tuple[NDArray[Any], ...], ...]

    @classmethod
    def fit(cls, sessions: EncodedSessions, known: int) -> NextEvent:
        """Count the steps of sessions."""
        event, contexts, _ = _steps(sessions)
        tables = []
        for context in contexts:
            grams, counts = np.unique(context * _BASE + event, return_counts=True)
            seen, first = np.unique(grams // _BASE, return_index=True)
            tables.append((seen, np.add.reduceat(counts, first), np.diff(np.append(first, len(grams))), grams, counts))
        return cls(known, tuple(tables))

    def surprise(self, sessions: EncodedSessions) -> tuple[Floats, Bools, Ids]:
        """Of each step -ln P, whether its event never follows the one before it, and its session: shapes (steps,)."""
        event, contexts, session = _steps(sessions)
        # the same steps come often
        steps, inverse = np.unique(contexts[-1] * _BASE + event, return_inverse=True)
        event, whole = steps % _BASE, steps // _BASE
        p, never = np.full(len(steps), 1 / (self.known + 2)), np.zeros(len(steps), bool)
        for length, (seen, totals, kinds, grams, counts) in enumerate(self.tables):
            # the lower digits of a context are the latest events
            context = whole % _BASE ** np.uint64(length)
            at, seen_before = _find(seen, context)
            gram, found = _find(grams, context * _BASE + event)
            c = np.where(found, counts[gram], 0)
            p = np.where(seen_before, (c + kinds[at] * p) / (totals[at] + kinds[at]), p)
            never = ~found if length == 1 else never
        return -np.log(p)[inverse], never[inverse], session


@dataclass(frozen=True)
class CountProfile:
    """How often each event occurs in a normal session.

    Parameters
    ----------
    shares : shape (events, buckets)
        Of the sessions by buckets of counts.
    low, high : shape (events,)
        Least and greatest counts.
    """

    shares: Floats
    low: Ids
    high: Ids

    @classmethod
    def fit(cls, counts: Ids) -> CountProfile:
        """The profile of n sessions from their counts, shape (n, events)."""
        seen = np.stack([np.bincount(column, minlength=_BUCKETS) for column in _bucket(counts).T]).astype(float)
        kinds = (seen > 0).sum(axis=1, keepdims=True)
        # Witten-Bell again; unseen counts are rarer, the farther they are from seen ones
        buckets = np.arange(_BUCKETS)
        distance = np.stack([np.abs(buckets[:, None] - np.flatnonzero(row)).min(axis=1) for row in seen])
        base = _DECAY**distance
        shares = (seen + kinds * base / base.sum(axis=1, keepdims=True)) / (len(counts) + kinds)
        return cls(shares, counts.min(axis=0), counts.max(axis=0))

    def surprise(self, counts: Ids) -> Floats:
        """-ln of the share of each of the ``counts``, shape (n, events) to shape (n, events)."""
        return np.asarray(-np.log(self.shares[np.arange(counts.shape[1])[None], _bucket(counts)]))


@dataclass(frozen=True)
class _Tables:
    """Both models of normal sessions, and their three scores of any session."""

    steps: NextEvent
    profile: CountProfile

    @classmethod
    def fit(cls, sessions: Sequence[Ids], times: Ids, known: int) -> _Tables:
        """Fit to n encoded sessions, each of shape (events,), and how often each occurred, shape (n,)."""
        repeated = [session for i in _sample(sessions, times) for session in [sessions[i]] * min(times[i], _MAX_TIMES)]
        encoded = EncodedSessions.of(repeated)
        return cls(NextEvent.fit(encoded, known), CountProfile.fit(_counts(encoded, known)))

    def numbers(self, sessions: EncodedSessions) -> Floats:
        """The three scores of n sessions, shape (n, 3)."""
        surprise, _, session = self.steps.surprise(sessions)
        first = np.flatnonzero(np.diff(session, prepend=-1))
        greatest, total = np.maximum.reduceat(surprise, first), np.add.reduceat(surprise, first)
        counts = self.profile.surprise(_counts(sessions, self.steps.known)).max(axis=1)
        return np.stack([greatest, total / np.bincount(session), counts], axis=1)


@dataclass(frozen=True)
class SequenceModel:
    """The fitted detector.

    Parameters
    ----------
    codes : dict
        Codes of the masked events, from 2.
    tables : _Tables
    tails : tuple of ConformalTail
        Of the three scores and of their sum.
    """

    codes: dict[str, int]
    tables: _Tables
    tails: tuple[ConformalTail, ...]

    @classmethod
    def fit(
        cls, sessions: Sequence[Sequence[str]], times: Ints, anomalous: Bools
    ) -> tuple[SequenceModel, Floats, Floats]:
        """Fit to the normal ones of n sessions.

        Parameters
        ----------
        sessions : n sequences of events
        times : shape (n,)
            How often each session occurred.
        anomalous : shape (n,)
            Whether each is labelled anomalous.

        Returns
        -------
        SequenceModel
        shape (n, 3)
            Cross-fitted scores of all sessions.
        shape (n,)
            Their log-odds.
        """
        codes = _vocabulary(sessions)
        ids = [_encode(codes, session) for session in sessions]
        numbers = _cross_fitted(ids, times, anomalous, len(codes))
        normal = np.flatnonzero(~anomalous)
        tails = tuple(ConformalTail.of(column, times[normal]) for column in numbers[normal].T)
        combined = ConformalTail.of(_combined(tails, numbers[normal]), times[normal])
        tables = _Tables.fit([ids[i] for i in normal], times[normal], len(codes))
        fitted = cls(codes, tables, (*tails, combined))
        return fitted, numbers, fitted.outlier_score(numbers)

    def numbers(self, sessions: SessionBlock) -> Floats:
        """Greatest and mean surprise of a step, greatest surprise of a count, in nats: shape (n, 3)."""
        code_of = np.array([self.codes.get(kind, _OTHER) for kind in sessions.kinds], np.int64)
        return self.tables.numbers(EncodedSessions(code_of[sessions.codes], sessions.sizes))

    def log_odds(self, sessions: SessionBlock) -> Floats:
        """Log-odds of n sessions, shape (n,)."""
        return self.outlier_score(self.numbers(sessions))

    def outlier_score(self, numbers: Floats) -> Floats:
        """Log-odds of n sessions, shape (n,), from their `numbers`, shape (n, 3)."""
        return self.tails[-1].log_odds(_combined(self.tails[:-1], numbers))

    def facts(self, session: Sequence[str]) -> list[str]:
        """The most surprising step, if it is surprising at all."""
        ids = _encode(self.codes, session)
        surprise, never, _ = self.tables.steps.surprise(EncodedSessions.of([ids]))
        step = int(np.argmax(np.where(never, surprise + 1e3, surprise)))
        before = f"“{session[step - 1]}”" if step else "the start"
        event = f"“{session[step]}”" if step < len(session) else "the end"
        if never[step]:
            return [f"after {before} came {event}, which never follows it in normal cases"]
        if surprise[step] > math.log(100):
            return [f"after {before} came {event}, which normal cases seldom have there"]
        return []

    def state(self) -> dict[str, Any]:
        """The detector as plain values and arrays, see `from_state`."""
        profile = self.tables.profile
        return {
            "codes": self.codes,
            "tables": [list(arrays) for arrays in self.tables.steps.tables],
            "profile": [profile.shares, profile.low, profile.high],
            "tails": [tail.values for tail in self.tails],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SequenceModel:
        """The detector that `state` gave ``state`` of."""
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


def _steps(sessions: EncodedSessions) -> tuple[NDArray[np.uint64], NDArray[np.uint64], Ids]:
    """Each step's event, its contexts of 0 to 4 events as codes, and its session; every session ends in an edge."""
    sizes, padded = sessions.sizes, sessions.sizes + _ORDER + 1
    starts = np.cumsum(padded) - padded
    flat = np.zeros(padded.sum(), np.uint64)
    offsets = np.arange(len(sessions.codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    flat[np.repeat(starts + _ORDER, sizes) + offsets] = sessions.codes.astype(np.uint64)
    steps = sizes + 1
    at = np.repeat(starts + _ORDER, steps) + np.arange(steps.sum()) - np.repeat(np.cumsum(steps) - steps, steps)
    contexts = np.zeros((_ORDER + 1, len(at)), np.uint64)
    for length in range(1, _ORDER + 1):
        contexts[length] = contexts[length - 1] + flat[at - length] * _BASE ** np.uint64(length - 1)
    return flat[at], contexts, np.repeat(np.arange(len(sizes)), steps)


def _find(table: NDArray[np.uint64], keys: NDArray[np.uint64]) -> tuple[Ids, Bools]:
    at = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return at, table[at] == keys


def _bucket(counts: Ids) -> Ids:
    """0 to 5 as they are, then four buckets a doubling."""
    logarithmic = 5 + np.ceil(4 * np.log2(np.maximum(counts, 5) / 5))
    return np.minimum(np.where(counts <= 5, counts, logarithmic), _BUCKETS - 1).astype(np.int64)


def _counts(sessions: EncodedSessions, known: int) -> Ids:
    """How often each counted event occurs, unknown ones first: shape (n, events)."""
    width = min(known + 1, _COUNTED)
    counted = (sessions.codes >= 1) & (sessions.codes <= width)
    place = np.repeat(np.arange(len(sessions.sizes)), sessions.sizes)[counted] * width + sessions.codes[counted] - 1
    return np.bincount(place, minlength=width * len(sessions.sizes)).reshape(-1, width)


def _sample(sessions: Sequence[Ids], times: Ids) -> Ids:
    order = np.random.default_rng(_SEED).permutation(len(sessions))
    sizes = np.cumsum([len(sessions[i]) * min(times[i], _MAX_TIMES) for i in order])
    return order[: max(1, int(np.searchsorted(sizes, _FIT_EVENTS)))]


def _combined(tails: Sequence[ConformalTail], numbers: Floats) -> Floats:
    return np.asarray(np.sum([tail(column) for tail, column in zip(tails, numbers.T, strict=True)], axis=0))


def _cross_fitted(ids: Sequence[Ids], times: Ids, anomalous: Bools, known: int) -> Floats:
    """The three scores of each session by tables of the normal sessions of the other folds."""
    fold = np.zeros(len(ids), np.int64)
    rng = np.random.default_rng(_SEED)
    for label in (False, True):
        of_label = np.flatnonzero(anomalous == label)
        fold[rng.permutation(of_label)] = np.arange(len(of_label)) % _FOLDS
    out = np.zeros((len(ids), NUMBERS))
    for number in np.unique(fold):
        rest, held_out = np.flatnonzero((fold != number) & ~anomalous), np.flatnonzero(fold == number)
        tables = _Tables.fit([ids[i] for i in rest.tolist()], times[rest], known)
        out[held_out] = tables.numbers(EncodedSessions.of([ids[i] for i in held_out.tolist()]))
    return out
