"""From a casebook to a fitted `Judge`: each case is judged by all the others, and fusion learns from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.fusion import DEFAULT_CHEAP, DEFAULT_FULL, Judge, fit
from agent.signals.fields import FieldModel
from agent.signals.language import LanguageWitness
from agent.signals.neighbours import contrast
from agent.signals.novelty import lonely
from llm.failures import EngineBusy, ModelFailure
from retrieval.casebook import Casebook, SourceRow, StoredCase
from retrieval.field_space import FieldSpace, features

_SAMPLE = 2_000
_SEED = 20_26
_RANGE = (0.05, 0.95)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Key:
    """One template of the casebook, seen by the others: its signals, made without it."""

    case: StoredCase
    anomalous: bool
    signals: dict[str, float | None]


def fit_judge(
    casebook: Casebook,
    name: str,
    witness: LanguageWitness | None,
    *,
    precedents: int,
    budget: int,
    risk: float,
    progress: Progress | None = None,
) -> Judge:
    """Fit the source's judge and keep it with the source.

    ``budget``: the most cases that the language model is asked about; ``risk``: see `agent.fusion.fit`.
    """
    row = casebook.source(name)
    assert row is not None
    by_key = {(case.key, case.label): case for case in casebook.cases(name)}
    field_log_odds, model, normal_axes = _fields(row, list(by_key.values()))
    keys, distances = _leave_one_out(casebook, row, by_key, field_log_odds, precedents)
    labels = [key.anomalous for key in keys]
    cheap = fit(DEFAULT_CHEAP, [key.signals for key in keys], labels, [1.0] * len(keys), risk)
    judge = Judge(
        cheap=cheap,
        lonely=tuple(float(d) for d in np.quantile(distances, np.linspace(0, 1, 201))) if distances else (),
        keys=len(keys),
        normal_axes=normal_axes.to_json() if normal_axes else None,
        fitted_on=row.version,
    )
    if witness is not None and budget and not (model and model.supervised):
        judge = _with_language(judge, row, keys, witness, budget, risk, progress)
    casebook.set(name, judge=judge.to_json(), field_model=model.dumps() if model else None)
    return judge


def _fields(
    row: SourceRow, cases: Sequence[StoredCase]
) -> tuple[dict[tuple[str, str], float], FieldModel | None, FieldSpace | None]:
    rows = [features(case.fields, case.events) for case in cases]
    if len(rows) < 8 or sum(map(bool, rows)) * 2 <= len(rows) or row.space is None:
        return {}, None, None
    axes = row.space.axes or FieldSpace.fit(rows)
    normal_rows = [features for features, case in zip(rows, cases, strict=True) if case.label == "normal"]
    if not axes.numbers and not axes.categories:
        return {}, None, None
    model, log_odds = FieldModel.fit(axes, rows, [case.label == "anomalous" for case in cases])
    by_key = {(case.key, case.label): value for case, value in zip(cases, log_odds, strict=True)}
    return by_key, model, FieldSpace.fit(normal_rows) if normal_rows else None


def _leave_one_out(
    casebook: Casebook,
    row: SourceRow,
    by_key: dict[tuple[str, str], StoredCase],
    field_log_odds: dict[tuple[str, str], float],
    k: int,
) -> tuple[list[_Key], list[float]]:
    """Every template (a seeded sample of 2,000) with the signals that all other templates give it."""
    keys: dict[str, list[str]] = {}
    matrices: dict[str, NDArray[np.float32]] = {}
    for label in ("normal", "anomalous"):
        keys[label], matrices[label] = casebook.matrix(row, label)
    # a template with both labels is decided by its counts and teaches nothing about unseen ones
    both = set(keys["normal"]) & set(keys["anomalous"])
    own = [(label, i) for label in keys for i, key in enumerate(keys[label]) if key not in both]
    if len(own) > _SAMPLE:
        chosen = np.random.default_rng(_SEED).choice(len(own), _SAMPLE, replace=False)
        own = [own[i] for i in sorted(chosen)]
    raw = []
    for label, i in own:
        vector = matrices[label][i]
        near: dict[str, list[float]] = {}
        for other, matrix in matrices.items():
            similarities = matrix @ vector if len(matrix) else np.zeros(0, np.float32)
            if other == label:
                similarities = np.delete(similarities, i)
            near[other] = [float(s) for s in np.sort(similarities)[::-1][:k]]
        raw.append((label, keys[label][i], near))
    distances = sorted(1 - max(near["normal"] + near["anomalous"]) for _, _, near in raw if any(near.values()))
    out = []
    for label, key, near in raw:
        everything = near["normal"] + near["anomalous"]
        signals: dict[str, float | None] = {
            "neighbours": contrast(near["anomalous"], near["normal"]),
            "novelty": lonely(1 - max(everything), distances, len(distances)) if everything else None,
            "fields": field_log_odds.get((key, label)),
        }
        out.append(_Key(by_key[key, label], label == "anomalous", signals))
    return out, distances


def _with_language(
    judge: Judge,
    row: SourceRow,
    keys: Sequence[_Key],
    witness: LanguageWitness,
    budget: int,
    risk: float,
    progress: Progress | None,
) -> Judge:
    """The judge with the language model tried on a balanced sample of templates, within the budget."""
    assert row.space is not None
    rng = np.random.default_rng(_SEED)
    chosen: list[tuple[_Key, float]] = []
    for anomalous in (True, False):
        mine = [key for key in keys if key.anomalous is anomalous]
        size = min(len(mine), budget // 2)
        if size:
            picked = sorted(rng.choice(len(mine), size, replace=False))
            chosen += [(mine[i], len(mine) / size) for i in picked]
    rows: list[dict[str, float | None]] = []
    try:
        reference = witness.without_content(row.brief)
        for done, (key, _) in enumerate(chosen, start=1):
            signal = witness.hear(row.brief, row.space.masked(key.case), reference, ())
            if signal.log_odds is None:
                raise ModelFailure(signal.degraded)
            rows.append({**key.signals, "language": signal.log_odds})
            if progress:
                progress("hearing the language model", done, len(chosen))
    except (ModelFailure, EngineBusy):
        # learning stands without it; each verdict names the witness that was not heard
        return judge
    labels = [key.anomalous for key, _ in chosen]
    full = fit(DEFAULT_FULL, rows, labels, [weight for _, weight in chosen], risk)
    words = [row["language"] or 0.0 for row in rows]
    low, high = np.quantile(words, _RANGE)
    return replace(
        judge,
        full=full,
        without_content=reference,
        model=witness.model.name,
        language_auc=_auc(words, labels),
        language_range=(float(low), float(high)),
    )


def _auc(scores: Sequence[float], anomalous: Sequence[bool]) -> float | None:
    if len(set(anomalous)) < 2:
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(anomalous, scores))
