"""What a detector is: the protocol of all of them, built in or installed, and the records and cases that they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from agent.core.records import FieldValue, Record, Signal
from retrieval.types import RetrievalResult

Need = Literal["text", "fields", "events", "series"]
SERIES: frozenset[Need] = frozenset({"series"})


@dataclass(frozen=True, slots=True)
class DetectorInput:
    """A record as detectors see it.

    Parameters
    ----------
    record : Record
    text : str
        What is compared: the record's text, or its fields that hold text, without prompt injections.
    masked : str
        ``text`` with its varying parts masked.
    features : mapping
        Fields, and for a session the counts of its events.
    found : RetrievalResult
        The precedents, and the embedding vector.
    field_scores : (float or None, float), optional
        Log-odds of the trees (None without trees) and of the outlier score, where the source has a model of fields.
    """

    record: Record
    text: str
    masked: str
    features: Mapping[str, FieldValue]
    found: RetrievalResult
    field_scores: tuple[float | None, float] | None = None

    def has(self, needs: frozenset[Need]) -> bool:
        """Whether the record has one of the ``needs``."""
        record = self.record
        present = {
            "text": record.text.strip(),
            "fields": record.fields,
            "events": record.events,
            "series": record.series,
        }
        return any(present.get(need) for need in needs)


@dataclass(frozen=True, slots=True)
class TrainingCase:
    """A case to learn from: ``found`` of its input holds no precedent that is the case itself.

    Parameters
    ----------
    input : DetectorInput
    anomalous : bool
    kind : str, optional
        The value of its label ("neptune", "fraud").
    times : int
        How often it occurred.
    """

    input: DetectorInput
    anomalous: bool
    kind: str | None = None
    times: int = 1


class Scorer(Protocol):
    """Gives a signal for each record. Safe to share between threads."""

    @property
    def name(self) -> str:
        """Name of the signal."""
        ...

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """The signal of each record, independent of the other records: log-odds of *anomalous*, and facts."""
        ...


class Detector(Scorer, Protocol):
    """A scorer that learns from cases; a package adds one by an entry point of the group ``precedent.detectors``.

    Attributes
    ----------
    name : str
        A lower-case identifier, the key of its log-odds in `Verdict.signals`.
    needs : frozenset
        It gets only records that have at least one of these.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]]

    @classmethod
    def fit(cls, cases: Sequence[TrainingCase]) -> Self | None:
        """The fitted detector; None when it can learn nothing from these cases."""
        ...

    def out_of_fold(self, cases: Sequence[TrainingCase], folds: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log-odds of the cases it was fitted on, each by a detector that has not seen it.

        By default one detector is fitted for each fold.

        Parameters
        ----------
        cases : n cases
        folds : shape (n,)
            Number of each case's fold.

        Returns
        -------
        shape (n,)
            NaN where there is none.
        """
        log_odds = np.full(len(cases), np.nan)
        for fold in np.unique(folds):
            detector = self.fit([case for case, other in zip(cases, folds, strict=True) if other != fold])
            held_out = np.flatnonzero(folds == fold)
            if detector is not None:
                signals = detector.score([cases[i].input for i in held_out.tolist()])
                log_odds[held_out] = [np.nan if signal.log_odds is None else signal.log_odds for signal in signals]
        return log_odds

    def save(self) -> Mapping[str, Any]:
        """The detector as numbers, strings, and arrays of them."""
        ...

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """The detector that `save` gave ``state`` of; all values are arrays."""
        ...
