"""Detectors beside the built-in signals: those of installed packages, and those of `contrib` chosen for a source.

Packages add theirs by entry points of the group ``precedent.detectors``. Whatever goes wrong in a detector is reported
with its name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import DetectorError, PrecedentError
from agent.core.records import SIGNAL_NAME, SIGNALS, Signal
from agent.detectors.base import Detector, DetectorInput, Need, TrainingCase
from agent.detectors.contrib import catalog
from agent.detectors.contrib.resources import Resources

GROUP = "precedent.detectors"
_METHODS = ("name", "needs", "fit", "score", "out_of_fold", "save", "load")


@cache
def installed() -> dict[str, type[Detector]]:
    """The classes of the installed detectors, by name.

    Raises
    ------
    DetectorError
        A package's detector cannot be imported, lacks a method, or has a name that is taken.
    """
    detectors: dict[str, type[Detector]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        with _reported(f"the detector {point.name!r} of the package {_package(point)}"):
            detector = _load(point)
            if detector.name in detectors or detector.name in SIGNALS or catalog.is_contrib(detector.name):
                raise ValueError(f"the name {detector.name!r} is taken")
        detectors[detector.name] = detector
    return detectors


def installed_packages() -> list[tuple[str, str]]:
    """Entry point and package, with its version, of each installed detector; none is imported."""
    return sorted((point.name, _package(point)) for point in entry_points(group=GROUP))


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed package"


def _load(point: EntryPoint) -> type[Detector]:
    detector: type[Detector] = point.load()
    if missing := [name for name in _METHODS if not hasattr(detector, name)]:
        raise TypeError(f"{point.value} has no {', '.join(missing)}")
    if not re.fullmatch(SIGNAL_NAME, detector.name):
        raise ValueError(f"the name {detector.name!r} is not a lower-case identifier")
    return detector


@dataclass(frozen=True)
class InstalledDetector:
    """A fitted detector of a package or of `contrib`; ``detector`` is None where its package is not installed."""

    name: str
    detector: Detector | None
    missing: str = "the package of this detector is not installed"

    @property
    def needs(self) -> frozenset[Need]:
        """What a record must have to be scored."""
        return frozenset() if self.detector is None else self.detector.needs

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """The signals of the records that have what the detector needs; empty signals for the others.

        Raises
        ------
        DetectorError
            The detector failed.
        """
        if self.detector is None:
            return [Signal(degraded=self.missing)] * len(records)
        needed = [i for i, record in enumerate(records) if record.has(self.detector.needs)]
        signals = [Signal()] * len(records)
        with _reported(f"the detector {self.name!r}"):
            scored = self.detector.score([records[i] for i in needed]) if needed else []
            for i, signal in zip(needed, scored, strict=True):
                if signal.log_odds is not None and not math.isfinite(signal.log_odds):
                    raise ValueError(f"log-odds of {signal.log_odds}")
                signals[i] = signal
        return signals

    def save(self) -> dict[str, NDArray[Any]]:
        """The detector's state as arrays of any shapes, which can be stored without pickle."""
        assert self.detector is not None
        with _reported(f"the detector {self.name!r}"):
            state = {key: np.asarray(value) for key, value in self.detector.save().items()}
            if pickled := [key for key, array in state.items() if array.dtype.hasobject]:
                raise TypeError(f"its state is not of numbers and strings only: {', '.join(pickled)}")
        return state

    @classmethod
    def load(cls, name: str, state: Mapping[str, NDArray[Any]], resources: Resources) -> InstalledDetector:
        """The detector that `save` gave ``state`` of; its arrays have any shapes."""
        if catalog.is_contrib(name):
            entry = catalog.entry(name)
            if entry.missing:
                return cls(name, None, f"needs the extra [{entry.extra}]: {entry.hint}")
            detector: type[Detector] | None = entry.detector(resources)
        else:
            detector = installed().get(name)
        with _reported(f"the detector {name!r}"):
            return cls(name, detector.load(state) if detector else None)


def fit_detectors(
    classes: Mapping[str, type[Detector]], cases: Sequence[TrainingCase], foldings: Sequence[NDArray[np.int64]]
) -> dict[str, tuple[InstalledDetector, list[NDArray[np.float64]]]]:
    """Every detector that can learn from the cases, with its out-of-fold log-odds.

    Parameters
    ----------
    classes : mapping
        Classes of detectors by name.
    cases : n cases
    foldings : arrays of shape (n,)
        Numbers of the cases' folds.

    Returns
    -------
    dict
        By name, the detector and for each of the foldings log-odds of shape (n,), NaN where there are none.
    """
    fitted = {}
    for name, detector_class in classes.items():
        indices = [i for i, case in enumerate(cases) if case.input.has(detector_class.needs)]
        needed = [cases[i] for i in indices]
        with _reported(f"the detector {name!r}"):
            detector = detector_class.fit(needed) if needed else None
            if detector is None:
                continue
            log_odds = [np.full(len(cases), np.nan) for _ in foldings]
            for out, folds in zip(log_odds, foldings, strict=True):
                out[indices] = detector.out_of_fold(needed, folds[indices])
        fitted[name] = (InstalledDetector(name, detector), log_odds)
    return fitted


@contextmanager
def _reported(subject: str) -> Iterator[None]:
    """Turn any error of foreign code into one that names its detector."""
    try:
        yield
    except PrecedentError:
        raise
    except Exception as error:
        raise DetectorError(f"{subject} failed: {type(error).__name__}: {error}") from error
