"""The common part of detectors of sessions that train a network on normal sessions: its scores become log-odds.

Normal sessions are scored by networks that were trained on two thirds of the other distinct ones. The share of normal
sessions with a score at least as high is a p-value. Even odds are where the published rule of the system is, but where
at least 1 % and at most 4 % of normal sessions are flagged: the rule's settings are those of one data set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agent.core.records import Signal
from agent.detectors.base import Detector, DetectorInput, Need, TrainingCase
from agent.detectors.conformal import ALPHA, ConformalTail
from agent.detectors.contrib.event_windows import OTHER, Findings, Ids, Kinds, Vocabulary, reproducible
from retrieval.arrays import Floats, Ints
from retrieval.text.masking import kind_of_event

_FOLDS, _SEED, _LIMIT = 3, 20_26, 6.0
# fewer normal sessions teach nothing; a seeded sample of distinct sessions with about so many events is used
_LEAST, _MOST_EVENTS = 8, 1_000_000
# p-value at even odds at the least
_LEAST_ALPHA = 0.01
# beyond the normal sessions' scores, what differs by less than 0.05 is as good as equal; `ConformalTail` has 0.001
_UNIT = 50.0
# a number is not above those of normal sessions by less: the other sessions of a batch change it in the ninth digit
_NOISE = 1e-4
# values of normal sessions that are kept for p-values
_TAIL = 20_000


class SessionNetwork(Protocol):
    """What a detector needs of its network, a `torch.nn.Module`."""

    def fit(self, name: str, sessions: Sequence[Ids], times: Floats) -> None:
        """Train on encoded normal sessions that occurred so many ``times``."""
        ...

    def examine(self, sessions: Sequence[Ids]) -> Findings:
        """What is found in encoded sessions."""
        ...


@dataclass(frozen=True)
class Scale:
    """From the numbers of `Findings` to log-odds.

    Parameters
    ----------
    tails : tuple of ConformalTail
        Of each number and, where there are several, of the sum of their -ln p.
    zero : float
        The -ln p at even odds.
    """

    tails: tuple[ConformalTail, ...]
    zero: float

    @classmethod
    def of(cls, numbers: Floats, times: Ids, rule: float | None) -> Scale:
        """The scale of the numbers of n normal sessions.

        Parameters
        ----------
        numbers : shape (n, k)
        times : shape (n,)
        rule : float or None
            From where on the published rule flags a session by its only number; None if the system has no such rule.
        """
        times = -(-times * min(times.sum(), _TAIL) // times.sum())
        columns = tuple(ConformalTail.of(column / _UNIT, times) for column in numbers.T)
        zero = -math.log(_LEAST_ALPHA)
        if rule is not None:
            zero = min(zero, max(-math.log(ALPHA), float(columns[0](np.array([rule / _UNIT]))[0])))
        if len(columns) == 1:
            return cls(columns, zero)
        return cls((*columns, ConformalTail.of(_sum(columns, numbers) / _UNIT, times)), zero)

    def log_odds(self, numbers: Floats) -> Floats:
        """Log-odds of n sessions, within ±6: shape (n, k) to shape (n,)."""
        *columns, last = self.tails
        scores = _sum(columns, numbers) if columns else numbers[:, 0]
        return np.clip(_tail_log_p(last, scores) - self.zero, -_LIMIT, _LIMIT)

    def percentage(self, log_odds: float) -> int:
        """The percentage of normal sessions that are more expected than one with these log-odds, rounded down."""
        return math.floor(100 * (1 - math.exp(-max(0.0, log_odds + self.zero))))


def _sum(columns: Sequence[ConformalTail], numbers: Floats) -> Floats:
    return np.asarray(np.sum([_tail_log_p(*pair) for pair in zip(columns, numbers.T, strict=True)], axis=0))


def _tail_log_p(tail: ConformalTail, numbers: Floats) -> Floats:
    """-ln p of n numbers, shape (n,)."""
    return tail((numbers - _NOISE) / _UNIT)


class SessionDetector(Detector):
    """A detector of sessions by a network of a subclass.

    Parameters
    ----------
    vocabulary : Vocabulary
    network : SessionNetwork
    scale : Scale
    held_out : mapping, optional
        The numbers of the normal sessions that it was fitted to, by networks that have not seen them.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"events"})
    rule: ClassVar[float | None] = None

    def __init__(
        self,
        vocabulary: Vocabulary,
        network: SessionNetwork,
        scale: Scale,
        held_out: Mapping[Kinds, Floats] | None = None,
    ) -> None:
        self.vocabulary, self.network, self.scale, self._held_out = vocabulary, network, scale, held_out or {}

    @classmethod
    def build(cls, vocabulary: Vocabulary) -> SessionNetwork:
        """The untrained network."""
        raise NotImplementedError

    @classmethod
    def rebuild(cls, vocabulary: Vocabulary, arrays: Mapping[str, NDArray[Any]]) -> SessionNetwork:
        """A network for the parameters ``arrays``."""
        return cls.build(vocabulary)

    @staticmethod
    def expectation(step: int, rank: int) -> str:
        """What is said of a step's event that is unexpected."""
        raise NotImplementedError

    def encode(self, sessions: Sequence[Kinds]) -> list[Ids]:
        """The codes of sessions, each of shape (events,)."""
        return [self.vocabulary.encode(session) for session in sessions]

    @classmethod
    def fit(cls, cases: Sequence[TrainingCase]) -> Self | None:
        """Train on the normal sessions; None if they are fewer than 8."""
        times: dict[Kinds, int] = {}
        for case in cases:
            if not case.anomalous and case.input.record.events:
                session = kinds_of(case.input)
                times[session] = times.get(session, 0) + case.times
        if sum(times.values()) < _LEAST:
            return None
        sessions, counts = _sample(times)
        with reproducible():
            numbers = cls._cross_fitted(sessions, counts)
            vocabulary, network = cls._trained("all", sessions, counts)
        if numbers is None:
            numbers = network.examine([vocabulary.encode(session) for session in sessions]).numbers
        scale = Scale.of(numbers, counts, cls.rule)
        return cls(vocabulary, network, scale, dict(zip(sessions, numbers, strict=True)))

    @classmethod
    def _trained(cls, part: str, sessions: Sequence[Kinds], times: Ids) -> tuple[Vocabulary, SessionNetwork]:
        vocabulary = Vocabulary.fit(sessions)
        network = cls.build(vocabulary)
        encoded = [vocabulary.encode(session) for session in sessions]
        network.fit(f"training {cls.name} ({part})", encoded, times.astype(np.float64))
        return vocabulary, network

    @classmethod
    def _cross_fitted(cls, sessions: Sequence[Kinds], times: Ids) -> Floats | None:
        """The numbers of each session by a network that has not seen it; None of a single session."""
        if len(sessions) < 2:
            return None
        folds = np.random.default_rng(_SEED).permutation(len(sessions)) % _FOLDS
        parts, places = [], []
        for fold in np.unique(folds):
            held_out, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            part = f"part {fold + 1} of {_FOLDS}"
            vocabulary, network = cls._trained(part, [sessions[i] for i in rest.tolist()], times[rest])
            unfitted = cls(vocabulary, network, Scale((), 0.0))
            parts.append(network.examine(unfitted.encode([sessions[i] for i in held_out.tolist()])).numbers)
            places.append(held_out)
        return np.concatenate(parts)[np.argsort(np.concatenate(places))]

    def out_of_fold(self, cases: Sequence[TrainingCase], folds: Ints) -> Floats:
        """Log-odds of the cases, each by a network that has not seen it; ``folds`` are not used.

        No network has seen an anomalous case, whatever its fold and kind.
        """
        if not self._held_out:
            fitted = type(self).fit(cases)
            return np.full(len(cases), np.nan) if fitted is None else fitted.out_of_fold(cases, folds)
        sessions = [kinds_of(case.input) for case in cases]
        log_odds = np.array([np.nan if s.log_odds is None else s.log_odds for s in self._signals(sessions)])
        known = [i for i, session in enumerate(sessions) if not cases[i].anomalous and session in self._held_out]
        if known:
            log_odds[known] = self.scale.log_odds(np.stack([self._held_out[sessions[i]] for i in known]))
        return log_odds

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """The signal of each session; an empty one for a record without events."""
        return self._signals([kinds_of(record) for record in records])

    def _signals(self, sessions: Sequence[Kinds]) -> list[Signal]:
        distinct = list(dict.fromkeys(session for session in sessions if session))
        if not distinct:
            return [Signal()] * len(sessions)
        encoded = self.encode(distinct)
        findings = self.network.examine(encoded)
        signals: dict[Kinds, Signal] = {(): Signal()}
        for i, log_odds in enumerate(self.scale.log_odds(findings.numbers).tolist()):
            facts = self._facts(distinct[i], encoded[i], findings, i)
            if not facts and log_odds > 0:
                facts = (self._fact_of_all(distinct[i], int(findings.step[i]), log_odds),)
            signals[distinct[i]] = Signal(log_odds=log_odds, facts=facts)
        return [signals[session] for session in sessions]

    def _fact_of_all(self, session: Kinds, step: int, log_odds: float) -> str:
        """The fact about a session that has no unexpected event, and is anomalous all the same."""
        place = "its end" if step == len(session) else f"event “{session[step]}” at position {step + 1}"
        return f"less expected than {self.scale.percentage(log_odds)} % of normal sessions, most of all {place}"

    def _facts(self, session: Kinds, codes: Ids, findings: Findings, i: int) -> tuple[str, ...]:
        """The most surprising step, and how many others are unexpected; none if it is not unexpected."""
        step, misses = int(findings.step[i]), int(findings.misses[i])
        if not misses:
            return ()
        expectation = self.expectation(step, int(findings.rank[i]))
        if step == len(session):
            fact = f"the session ends after {step} {'event' if step == 1 else 'events'}, where an end is {expectation}"
        elif codes[step] == OTHER:
            fact = f"event “{session[step]}” at position {step + 1} is in no normal session"
        else:
            fact = f"event “{session[step]}” at position {step + 1} is {expectation}"
        return (fact, f"unexpected events in this session: {misses}") if misses > 1 else (fact,)

    def save(self) -> dict[str, Any]:
        """Names of kinds, parameters of the network, and values of normal sessions."""
        assert isinstance(self.network, nn.Module)
        parameters = {f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()}
        tails = {f"tail.{i}": tail.values for i, tail in enumerate(self.scale.tails)}
        return {"kinds": np.array(self.vocabulary.kinds, dtype=str), "zero": self.scale.zero, **tails, **parameters}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """The detector that `save` gave ``state`` of."""
        vocabulary = Vocabulary(tuple(state["kinds"].tolist()))
        arrays = {key.removeprefix("network."): state[key] for key in state if key.startswith("network.")}
        network = cls.rebuild(vocabulary, arrays)
        assert isinstance(network, nn.Module)
        network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        network.eval()
        tails = tuple(ConformalTail(state[f"tail.{i}"]) for i in range(sum(key.startswith("tail.") for key in state)))
        return cls(vocabulary, network, Scale(tails, float(state["zero"])))


def kinds_of(record: DetectorInput) -> Kinds:
    """The kinds of a session's events."""
    return tuple(kind_of_event(event) for event in record.record.events)


def _sample(times: Mapping[Kinds, int]) -> tuple[list[Kinds], Ids]:
    """Distinct sessions and how often each occurred; all, or a seeded sample."""
    sessions = sorted(times)
    sizes = [len(session) for session in sessions]
    if sum(sizes) > _MOST_EVENTS:
        order = np.random.default_rng(_SEED).permutation(len(sessions))
        within = max(1, int(np.searchsorted(np.cumsum(np.array(sizes)[order]), _MOST_EVENTS)))
        sessions = [sessions[i] for i in sorted(order[:within].tolist())]
    return sessions, np.array([times[session] for session in sessions])
