"""The contrib detectors by name: what each is, which records it needs, and the extra that it takes.

Nothing is imported before a detector is used, so that the catalog is there without the extras.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from agent.core.errors import MissingPart, UsageError
from agent.detectors.base import SERIES, Detector, Need
from agent.detectors.contrib.resources import Resources

_ANY: frozenset[Need] = frozenset({"text", "fields", "events"})
_EVENTS: frozenset[Need] = frozenset({"events"})
# the packages that tell whether an extra is installed
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "classical": ("pyod", "numba", "matplotlib"),
    "timeseries": ("stumpy",),
    "tune": ("accelerate",),
}
ON_TEXT = "_text"


def is_installed(extra: str) -> bool:
    """Whether the packages of an extra are installed."""
    return all(importlib.util.find_spec(name) for name in EXTRAS[extra])


def hint_of(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'precedent-agent[{extra}]' (in a clone: make extras)"


@dataclass(frozen=True)
class Entry:
    """One detector of the catalog.

    Parameters
    ----------
    name : str
    summary : str
        What it is, in a line.
    load : callable
        Imports its class.
    needs : frozenset
        See `agent.detectors.base.Detector`.
    extra : str or None
        The optional dependencies that it takes.
    on_text : bool
        Whether there is a second detector, ``NAME_text``: the same on embeddings of texts, whatever the records are.
    takes : str
        What it must have to be fitted.
    option : str or None
        What ``NAME=OPTION`` names, where it takes one.
    """

    name: str
    summary: str
    load: Callable[[], type[Detector]]
    needs: frozenset[Need] = _ANY
    extra: str | None = None
    on_text: bool = False
    takes: str = "at least ten different normal cases (in texts: templates)"
    option: str | None = None

    @property
    def missing(self) -> bool:
        """Whether the extra is not installed."""
        return self.extra is not None and not is_installed(self.extra)

    @property
    def hint(self) -> str | None:
        """The command that installs the extra."""
        return self.extra and hint_of(self.extra)

    def to_json(self) -> dict[str, Any]:
        """As `precedent detectors list --json` shows it."""
        return {
            "name": self.name,
            "summary": self.summary,
            "needs": sorted(self.needs),
            "extra": self.extra,
            "installed": not self.missing,
            "on_text": f"{self.name}{ON_TEXT}" if self.on_text else None,
        }

    def detector(self, resources: Resources) -> type[Detector]:
        """The class, with the resources of a source.

        Raises
        ------
        MissingPart
            The extra is not installed.
        """
        if self.missing:
            raise MissingPart(f"the detector {self.name} needs the extra [{self.extra}]", self.hint)
        bound: type[Detector] = resources.bind(self.load())
        return bound


def _series(name: str) -> type[Detector]:
    from agent.detectors.contrib.series_detector import detector

    return detector(name)


def _classical(name: str) -> type[Detector]:
    from agent.detectors.contrib.classical import detector

    return detector(name)


def _deeplog() -> type[Detector]:
    from agent.detectors.contrib.deeplog import DeepLog

    return DeepLog


def _loganomaly() -> type[Detector]:
    from agent.detectors.contrib.loganomaly import LogAnomaly

    return LogAnomaly


def _logbert() -> type[Detector]:
    from agent.detectors.contrib.logbert import LogBert

    return LogBert


def _of_events(name: str, summary: str, load: Callable[[], type[Detector]]) -> Entry:
    takes = "at least ten different normal sessions (`precedent windows FILE` makes sessions of a log's lines)"
    return Entry(name, summary, load, _EVENTS, takes=takes)


def _of_series(name: str, summary: str, extra: str | None = None) -> Entry:
    takes = "ten windows of a normal series: a smaller --step or --window makes more of them"
    return Entry(name, summary, partial(_series, name), SERIES, extra, takes=takes)


def _of_scikit_learn(name: str, summary: str) -> Entry:
    return Entry(name, f"{summary} (scikit-learn)", partial(_classical, name), on_text=True)


def _of_pyod(name: str, summary: str) -> Entry:
    return Entry(name, f"{summary} (PyOD)", partial(_classical, name), extra="classical", on_text=True)


def _zeroshot() -> type[Detector]:
    from agent.detectors.contrib.zero_shot import BriefSimilarity

    return BriefSimilarity


def _nli() -> type[Detector]:
    from agent.detectors.contrib.zero_shot import Inference

    return Inference


def _tuned() -> type[Detector]:
    from agent.detectors.contrib.tuned import TunedClassifier

    return TunedClassifier


CATALOG: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        _of_events("deeplog", "events that are unlikely after those before them, by an LSTM", _deeplog),
        _of_events("loganomaly", "the same by the meaning of events' texts and by counts", _loganomaly),
        _of_events("logbert", "masked events that are not as expected, by a transformer", _logbert),
        _of_series("series", "windows of a time series unlike its normal part: the three ways below together"),
        _of_series("series_collective", "windows whose nearest normal one is far, by values and by shape"),
        _of_series("series_contextual", "values that are unusual at their time of day, on their day"),
        _of_series("series_point", "values that do not follow from those before, by a regression on lags"),
        _of_series("series_matrix", "matrix profile: the exact nearest shape (stumpy)", "timeseries"),
        _of_series("series_patch", "windows that a small network over patches cannot make again"),
        _of_scikit_learn("iforest", "isolation forest"),
        _of_scikit_learn("ocsvm", "one-class SVM"),
        _of_scikit_learn("lof", "local outlier factor"),
        _of_scikit_learn("knn", "distance to the fifth nearest normal record"),
        _of_scikit_learn("pca", "reconstruction error of principal components"),
        _of_scikit_learn("kpca", "reconstruction error of kernel principal components"),
        _of_scikit_learn("rpca", "distance to the low-rank part of normal records (principal component pursuit)"),
        _of_scikit_learn("gmm", "density of a Gaussian mixture"),
        _of_scikit_learn("kmeans", "distance to the nearest of eight centres"),
        _of_scikit_learn("kde", "kernel density"),
        _of_scikit_learn("iqr", "the value farthest outside its interquartile range"),
        Entry(
            "dagmm",
            "density of an autoencoder's codes and errors, by a Gaussian mixture",
            partial(_classical, "dagmm"),
            on_text=True,
        ),
        _of_pyod("ecod", "empirical cumulative distribution"),
        _of_pyod("copod", "copula of empirical distributions"),
        _of_pyod("hbos", "histograms"),
        _of_pyod("loda", "histograms of random projections"),
        _of_pyod("inne", "isolation by nearest neighbours"),
        _of_pyod("svdd", "deep support vector data description"),
        _of_pyod("autoencoder", "reconstruction error of an autoencoder"),
        _of_pyod("vae", "reconstruction error of a variational autoencoder"),
        Entry(
            "zeroshot",
            "nearness to what the brief calls anomalous, by the embedding model",
            _zeroshot,
            takes="a brief that says what is normal and what is anomalous, and ten normal cases",
        ),
        Entry(
            "tuned",
            "a transformer fine-tuned on the source's cases, by `precedent tune classifier`",
            _tuned,
            takes="`precedent tune classifier --source NAME` first",
        ),
        Entry("nli", "zero-shot classification by a model of inference: nli=MODEL", _nli, option="MODEL"),
    )
}


def split_option(name: str) -> tuple[str, str]:
    """``NAME=OPTION`` as the detector's name and its option; empty without one."""
    base, _, option = name.partition("=")
    return base, option


def entry(name: str) -> Entry:
    """The detector of this name, without an option.

    Raises
    ------
    UsageError
        There is none; the message names the nearest.
    """
    if found := _find(name):
        return found
    near = get_close_matches(name, CATALOG, n=1)
    suggestion = f"did you mean {near[0]}?" if near else "`precedent detectors list` names them"
    raise UsageError(f"no detector {name!r}: {suggestion}")


def is_contrib(name: str) -> bool:
    """Whether the catalog has a detector of this name."""
    return _find(name) is not None


def _find(name: str) -> Entry | None:
    base = CATALOG.get(name.removesuffix(ON_TEXT))
    if base is None or base.name == name:
        return base
    return replace(base, name=name, load=partial(_classical, name)) if base.on_text else None


def detectors(names: Iterable[str], resources: Resources) -> dict[str, type[Detector]]:
    """The classes of the named detectors, with the resources of a source.

    Raises
    ------
    UsageError
        There is no detector of a name, or its option is missing or not expected.
    MissingPart
        The extra of one is not installed.
    """
    classes = {}
    for name, option in map(split_option, names):
        found = entry(name)
        if bool(option) != bool(found.option):
            wanted = f"{name}={found.option}" if found.option else name
            raise UsageError(f"the detector {name} takes {'an' if found.option else 'no'} option: --detector {wanted}")
        classes[name] = found.detector(replace(resources, option=option))
    return classes
