"""Plain baselines: what a few lines of scikit-learn reach with the same labels. PyOD joins in where it is installed."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.data.readers import ParsedRow

Floats = NDArray[np.floating[Any]]
Encode = Callable[[Sequence[str]], Floats]
# learned and judged readings, the embedding model -> each judged reading's probability; at 0.5 it is told anomalous
Baseline = Callable[[Sequence[ParsedRow], Sequence[ParsedRow], Encode], Floats]

_TREES = 200
_NEIGHBOURS = 8


def _anomalous(readings: Sequence[ParsedRow]) -> NDArray[np.bool_]:
    return np.asarray([one.label == "anomalous" for one in readings])


# tables and sessions


def forest(
    learned: Sequence[ParsedRow],
    judged: Sequence[ParsedRow],
    _: Encode,
    *,
    trees: int = _TREES,
    leaf: int = 1,
    ratios: bool = False,
    best_f1: bool = False,
) -> Floats:
    """Random forest; ``best_f1``: told by the threshold with the best F1 out of bag instead of one half."""
    from sklearn.ensemble import RandomForestClassifier

    known, unknown = _matrices(learned, judged, ratios)
    labels = _anomalous(learned)
    model = RandomForestClassifier(trees, min_samples_leaf=leaf, oob_score=best_f1, random_state=0, n_jobs=-1).fit(
        known, labels
    )
    probability: Floats = model.predict_proba(unknown)[:, 1]
    return _moved(probability, _best_f1(model.oob_decision_function_[:, 1], labels)) if best_f1 else probability


def field_regression(learned: Sequence[ParsedRow], judged: Sequence[ParsedRow], _: Encode) -> Floats:
    """Logistic regression on the columns in standard units."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    known, unknown = _matrices(learned, judged)
    scaler = StandardScaler().fit(known)
    model = LogisticRegression(max_iter=1_000).fit(scaler.transform(known), _anomalous(learned))
    probability: Floats = model.predict_proba(scaler.transform(unknown))[:, 1]
    return probability


def isolation_forest(learned: Sequence[ParsedRow], judged: Sequence[ParsedRow], _: Encode) -> Floats:
    """Fitted on normal records; told by its own offset."""
    from sklearn.ensemble import IsolationForest

    known, unknown = _matrices(learned, judged)
    model = IsolationForest(n_estimators=_TREES, random_state=0, n_jobs=-1).fit(known)
    return _sigmoid(-np.asarray(model.decision_function(unknown)))


def pyod(learned: Sequence[ParsedRow], judged: Sequence[ParsedRow], _: Encode, *, name: str) -> Floats:
    """A detector of PyOD with its defaults, fitted on normal records in standard units; told by its own threshold."""
    from pyod.models import ecod, iforest, knn, lof, ocsvm, pca
    from sklearn.preprocessing import StandardScaler

    known, unknown = _matrices(learned, judged)
    scaler = StandardScaler().fit(known)
    detectors = {"KNN": knn.KNN, "IForest": iforest.IForest, "ECOD": ecod.ECOD}
    detectors |= {"LOF": lof.LOF, "OCSVM": ocsvm.OCSVM, "PCA": pca.PCA}
    model = detectors[name]().fit(scaler.transform(known))
    # constant columns make PyOD's PCA divide by 0
    score = np.nan_to_num(np.asarray(model.decision_function(scaler.transform(unknown))) - model.threshold_)
    return _sigmoid(score)


def _matrices(
    learned: Sequence[ParsedRow], judged: Sequence[ParsedRow], ratios: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numbers as they are, categories one-hot, events counted: ``(learned, columns)`` and ``(judged, columns)``."""
    from sklearn.feature_extraction import DictVectorizer

    vectorizer = DictVectorizer(sparse=False)
    known = vectorizer.fit_transform([_row(one, ratios) for one in learned])
    return known, vectorizer.transform([_row(one, ratios) for one in judged])


def _row(reading: ParsedRow, ratios: bool) -> dict[str, Any]:
    record = reading.record
    if record.events:
        return dict(Counter(record.events))
    row: dict[str, Any] = {name: value for name, value in record.fields.items() if value is not None}
    if ratios:
        row |= {f"{a} / {b}": row.get(a, 0.0) / (1 + row.get(b, 0.0)) for a, b in _RATIOS}
    return row


_RATIOS = (
    ("kickstart_executables_cpu_time", "runtime"),
    ("queue_delay", "runtime"),
    ("stage_in_bytes", "stage_in_delay"),
    ("stage_out_bytes", "stage_out_delay"),
)


def _sigmoid(score: Floats) -> Floats:
    from scipy.special import expit

    squeezed: Floats = expit(score)
    return squeezed


def _best_f1(probability: Floats, labels: NDArray[np.bool_]) -> float:
    from sklearn.metrics import precision_recall_curve

    seen = ~np.isnan(probability)
    precision, recall, thresholds = precision_recall_curve(labels[seen], probability[seen])
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    return float(thresholds[np.argmax(f1[:-1])])


def _moved(probability: Floats, threshold: float) -> Floats:
    """Odds divided by those of the threshold, so that it comes to lie at one half; the order stays."""
    t = min(max(threshold, 1e-6), 1 - 1e-6)
    moved: Floats = probability * (1 - t) / (probability * (1 - t) + (1 - probability) * t)
    return moved


# text


def embedded_regression(learned: Sequence[ParsedRow], judged: Sequence[ParsedRow], encode: Encode) -> Floats:
    """Logistic regression on the embedding model's vectors of the plain text."""
    from sklearn.linear_model import LogisticRegression

    if len(set(_anomalous(learned).tolist())) < 2:
        return np.full(len(judged), 0.0)
    model = LogisticRegression(max_iter=1_000).fit(encode(_texts(learned)), _anomalous(learned))
    probability: Floats = model.predict_proba(encode(_texts(judged)))[:, 1]
    return probability


def embedded_neighbours(learned: Sequence[ParsedRow], judged: Sequence[ParsedRow], encode: Encode) -> Floats:
    """The share of anomalous ones among the 8 nearest by cosine."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(_NEIGHBOURS, metric="cosine").fit(encode(_texts(learned)), _anomalous(learned))
    probability: Floats = model.predict_proba(encode(_texts(judged)))[:, 1]
    return probability


def tfidf_regression(learned: Sequence[ParsedRow], judged: Sequence[ParsedRow], _: Encode) -> Floats:
    """Logistic regression on TF-IDF of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    if len(set(_anomalous(learned).tolist())) < 2:
        return np.full(len(judged), 0.0)
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    model = LogisticRegression(max_iter=1_000).fit(vectorizer.fit_transform(_texts(learned)), _anomalous(learned))
    probability: Floats = model.predict_proba(vectorizer.transform(_texts(judged)))[:, 1]
    return probability


def encoding_once(encode: Encode) -> Encode:
    """``encode``, each distinct text only once."""
    kept: dict[str, Floats] = {}

    def once(texts: Sequence[str]) -> Floats:
        new = [text for text in dict.fromkeys(texts) if text not in kept]
        kept.update(zip(new, encode(new), strict=True))
        return np.stack([kept[text] for text in texts])

    return once


def _texts(readings: Sequence[ParsedRow]) -> list[str]:
    return [one.record.text for one in readings]


TEXT: Mapping[str, Baseline] = {
    "MiniLM + logistic regression": embedded_regression,
    "MiniLM + 8 nearest neighbours": embedded_neighbours,
    "TF-IDF + logistic regression": tfidf_regression,
}
FIELDS: Mapping[str, Baseline] = {"random forest": forest}
JOBS: Mapping[str, Baseline] = {"random forest, 4 ratios": partial(forest, trees=600, leaf=2, ratios=True)}
FEW_JOBS: Mapping[str, Baseline] = {
    "random forest, 4 ratios, out-of-bag F1": partial(forest, trees=600, leaf=2, ratios=True, best_f1=True)
}
_PYOD = ("KNN", "IForest", "ECOD", "LOF", "OCSVM", "PCA")
NORMAL_ONLY: Mapping[str, Baseline] = {
    "isolation forest": isolation_forest,
    **{f"PyOD {name}": partial(pyod, name=name) for name in _PYOD if importlib.util.find_spec("pyod")},
}
