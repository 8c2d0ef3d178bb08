"""From a casebook to a fitted `SourceModel`: each case is judged by all the others, and fusion learns from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.detectors.language import LanguageDetector, examples_for
from agent.detectors.neighbours import kernel_log_ratio
from agent.detectors.novelty import nn_distance_quantiles
from agent.detectors.persistence import FittedDetectors
from agent.detectors.tabular import OutOfFoldScores, TabularModel
from agent.detectors.text_classifier import TextClassifier, Texts
from agent.scoring.calibration import Objective, fit
from agent.scoring.fusion import (
    DEFAULT_CHEAP,
    DEFAULT_FULL,
    FIELDS,
    ODDNESS,
    UNTAUGHT_CHEAP,
    UNTAUGHT_FULL,
    Fusion,
    SourceModel,
)
from agent.training.prompt_selection import FEWEST, PromptTrial, select_prompt
from llm.errors import EngineBusy, ModelFailure
from retrieval.casebook import Casebook, SourceSnapshot, StoredCase
from retrieval.encoding.field_encoder import FieldEncoder, features
from retrieval.encoding.representation import Representation
from retrieval.types import LABELS

_SAMPLE = 5_000
_SEED = 20_26
_BLOCK = 512
_RANGE = (0.05, 0.95)
# neighbours of a case among which its examples are looked for
_NEAR = 16
# fewer records with fields than these teach nothing about them; a kind of anomaly counts by its cases up to so many
_FEWEST_ROWS, _OF_A_KIND = 8, 20
# different contents a template from which on a source's texts are lines of templates, and not prose
_MANY_LINES = 1.5
Progress = Callable[[str, int, int], None]
CaseKey = tuple[str, str]


@dataclass(frozen=True)
class _Key:
    """One template of the casebook, seen by the others: its vector, and its signals made without it."""

    case: StoredCase
    anomalous: bool
    vector: NDArray[np.float32]
    signals: dict[str, float | None]


def fit_judge(
    casebook: Casebook,
    name: str,
    witness: LanguageDetector | None,
    *,
    precedents: int,
    budget: int,
    risk: float,
    objective: str | None = None,
    progress: Progress | None = None,
) -> SourceModel:
    """Fit the source's judge and keep it with the source.

    ``budget``: the most calls of the language model; ``risk``: see `agent.scoring.calibration.fit`; ``objective``: see
    `agent.scoring.calibration.Objective.parse`, None keeps the source's.
    """
    row = casebook.source(name)
    assert row is not None
    objective = objective or (row.judge or {}).get("objective") or "f1"
    goal = Objective.parse(objective)
    templates = casebook.by_template(name)
    by_key = {key: case for key, (case, _) in templates.items()}
    count = sum(times for _, times in templates.values())
    if progress:
        progress("fitting", 0, 0)
    model, told, normal_axes = _fields(row, list(by_key.values()))
    keys, distances = _leave_one_out(casebook, row, by_key, precedents)
    texts, by_fields = None, row.space is not None and row.space.field_encoder is not None
    if by_fields:
        cheap = _fusion_of_fields(list(by_key.values()), model, told, risk, goal)
    else:
        texts, keys = _texts(row, keys, precedents, by_template=count >= _MANY_LINES * len(by_key))
        keys = _with_fields(keys, by_key, told)
        labels = [key.anomalous for key in keys]
        cheap = fit(DEFAULT_CHEAP, [key.signals for key in keys], labels, [1.0] * len(keys), risk, goal)
    judge = SourceModel(
        cheap=cheap,
        # what the model's words are worth here is not known yet
        full=replace(DEFAULT_FULL, threshold=cheap.threshold),
        nn_distance_quantiles=tuple(float(d) for d in np.quantile(distances, np.linspace(0, 1, 201)))
        if distances
        else (),
        keys=len(keys),
        normal_axes=normal_axes.to_json() if normal_axes else None,
        fitted_on=row.version,
        objective=objective,
        by_text=texts is not None and not texts.by_template,
    )
    # where there is a model of fields and nothing else, the chain never asks the language model
    if not by_fields and len({key.anomalous for key in keys}) < 2:
        judge = _untaught(judge, keys, goal)
    if witness is not None and budget and not (by_fields and model):
        judge = _with_language(judge, row, keys, witness, budget, risk, goal, progress)
    casebook.set(name, judge=judge.to_json(), models=FittedDetectors(model, texts).dumps())
    return judge


def _fields(
    row: SourceSnapshot, cases: Sequence[StoredCase]
) -> tuple[TabularModel | None, OutOfFoldScores | None, FieldEncoder | None]:
    rows = [features(case.fields, case.events) for case in cases]
    if len(rows) < _FEWEST_ROWS or sum(map(bool, rows)) * 2 <= len(rows) or row.space is None:
        return None, None, None
    field_encoder = row.space.field_encoder or FieldEncoder.fit(rows)
    if not field_encoder.numbers and not field_encoder.categories:
        return None, None, None
    model, told = TabularModel.fit(
        rows,
        [case.events for case in cases],
        [case.label == "anomalous" for case in cases],
        [case.kind for case in cases],
        [case.times for case in cases],
    )
    normal_rows = [features for features, case in zip(rows, cases, strict=True) if case.label == "normal"]
    return model, told, FieldEncoder.fit(normal_rows) if normal_rows else None


def _fusion_of_fields(
    cases: Sequence[StoredCase], model: TabularModel | None, told: OutOfFoldScores | None, risk: float, goal: Objective
) -> Fusion:
    """The fusion of trees and oddness; each case counts as one of a known kind and as one of a kind never seen."""
    if model is None or told is None or not model.supervised:
        return replace(ODDNESS, threshold=goal.least_cost)
    # content with both labels is decided by its counts and teaches nothing about what is unseen
    often = Counter(case.key for case in cases)
    fine = np.array([often[cases[i].key] == 1 for i in told.which]) & ~np.isnan(told.fields)
    kinds, oddness = told.kinds[fine], told.oddness[fine]
    anomalous = kinds > 0
    default = replace(FIELDS, weights={"fields": 1.0, "novelty": 3 / (10 + min(anomalous.sum(), (~anomalous).sum()))})
    tellings, weights = [told.fields[fine]], np.ones(len(kinds))
    if told.apart is not None:
        # what comes next may be of any kind, whichever was commonest so far
        size = np.maximum(np.bincount(kinds), _OF_A_KIND)
        weights = np.where(anomalous, 1 / size[kinds], 1.0)
        weights[anomalous] *= anomalous.sum() / weights[anomalous].sum()
        tellings.append(told.apart[fine])
    rows = [
        {"fields": float(tree), "novelty": float(odd)}
        for telling in tellings
        for tree, odd in zip(telling, oddness, strict=True)
    ]
    labels = [bool(label) for label in anomalous] * len(tellings)
    return fit(default, rows, labels, [float(w) for w in weights] * len(tellings), risk, goal)


def _leave_one_out(
    casebook: Casebook, row: SourceSnapshot, by_key: Mapping[CaseKey, StoredCase], k: int
) -> tuple[list[_Key], list[float]]:
    """Every template (a seeded sample of 5,000) as all other templates see it, and the distances to the nearest."""
    keys: dict[str, list[str]] = {}
    matrices: dict[str, NDArray[np.float32]] = {}
    for label in LABELS:
        keys[label], matrices[label] = casebook.matrix(row, label)
    # a template with both labels is decided by its counts and teaches nothing about unseen ones
    both = set(keys["normal"]) & set(keys["anomalous"])
    # and one that came in since the cases were read is for the next fit
    fine = {(key, label) for key, label in by_key if key not in both}
    own = [(label, i) for label in LABELS for i, key in enumerate(keys[label]) if (key, label) in fine]
    if len(own) > _SAMPLE:
        chosen = np.random.default_rng(_SEED).choice(len(own), _SAMPLE, replace=False)
        own = [own[i] for i in sorted(chosen)]
    raw: list[tuple[str, int, dict[str, list[float]]]] = []
    for start in range(0, len(own), _BLOCK):
        block = own[start : start + _BLOCK]
        vectors = np.stack([matrices[label][i] for label, i in block])
        found = {label: _nearest(vectors, label, block, matrices[label], k) for label in LABELS}
        raw += [(label, i, {other: found[other][place] for other in LABELS}) for place, (label, i) in enumerate(block)]
    distances = sorted(1 - max(near["normal"] + near["anomalous"]) for *_, near in raw if any(near.values()))
    out = []
    for label, i, near in raw:
        everything = near["normal"] + near["anomalous"]
        signals: dict[str, float | None] = {
            "neighbours": kernel_log_ratio(near["anomalous"], near["normal"]),
            "novelty": nn_distance_quantiles(1 - max(everything), distances, len(distances)) if everything else None,
        }
        case = by_key[keys[label][i], label]
        out.append(_Key(case, label == "anomalous", matrices[label][i], signals))
    return out, distances


def _nearest(
    vectors: NDArray[np.float32], label: str, block: Sequence[tuple[str, int]], matrix: NDArray[np.float32], k: int
) -> list[list[float]]:
    """The similarities of each vector's nearest in the matrix, itself left out, nearest first."""
    if not len(matrix):
        return [[] for _ in block]
    similar = vectors @ matrix.T
    for place, (own, i) in enumerate(block):
        if own == label:
            similar[place, i] = -np.inf
    top = -np.sort(-similar, axis=1)[:, :k]
    return [[float(s) for s in some if s > -np.inf] for some in top]


def _texts(
    row: SourceSnapshot, keys: list[_Key], k: int, *, by_template: bool
) -> tuple[TextClassifier | None, list[_Key]]:
    """What all cases teach about texts, and the keys with what they say of each as if unseen."""
    if not keys:
        return None, keys
    space = row.space or Representation()
    masked, said = zip(*((space.masked(key.case), space.comparable_text(key.case)) for key in keys), strict=True)
    texts = Texts.of(np.stack([key.vector for key in keys]), masked, masked if by_template else said)
    model, told = TextClassifier.fit(texts, np.array([key.anomalous for key in keys]), k, by_template=by_template)
    if model is None:
        return None, keys
    heard = [
        replace(key, signals={**key.signals, "neighbours": float(one)}) for key, one in zip(keys, told, strict=True)
    ]
    return model, heard


def _with_fields(keys: list[_Key], by_key: Mapping[CaseKey, StoredCase], told: OutOfFoldScores | None) -> list[_Key]:
    """The keys with what trees that have not seen them say of their fields, where records of text have fields."""
    if told is None:
        return keys
    places = list(by_key)
    fields = {places[i]: float(one) for i, one in zip(told.which, told.fields, strict=True)}
    return [replace(key, signals={**key.signals, "fields": fields.get((key.case.key, key.case.label))}) for key in keys]


def _with_language(
    judge: SourceModel,
    row: SourceSnapshot,
    keys: Sequence[_Key],
    witness: LanguageDetector,
    budget: int,
    risk: float,
    goal: Objective,
    progress: Progress | None,
) -> SourceModel:
    """The judge with the language model tried on a balanced sample of templates, within the budget."""
    order = np.random.default_rng(_SEED).permutation(len(keys))
    by_label = [[keys[i] for i in order if keys[i].anomalous is label] for label in (True, False)]
    chosen = [key for mine in by_label for key in mine[:budget]]
    try:
        asked = select_prompt(witness, row.brief, _tried(row, keys, chosen), budget, progress)
    except (ModelFailure, EngineBusy):
        # learning stands without it; each verdict names the witness that was not heard
        return judge
    heard = [(chosen[i], word) for i, word in asked.words.items()]
    labels, words = [key.anomalous for key, _ in heard], [word for _, word in heard]
    stands_for = {
        label: sum(key.anomalous is label for key in keys) / max(labels.count(label), 1) for label in set(labels)
    }
    weights = [stands_for[label] for label in labels]
    rows = [{**key.signals, "language": word} for key, word in heard]
    low, high = np.quantile(words, _RANGE)
    return replace(
        judge,
        full=fit(DEFAULT_FULL, rows, labels, weights, risk, goal) if len(set(labels)) == 2 else judge.full,
        way=asked.way,
        model=witness.model.name,
        language_auc=_auc(words, labels),
        language_range=(float(low), float(high)),
    )


def _untaught(judge: SourceModel, keys: Sequence[_Key], goal: Objective) -> SourceModel:
    """The judge of texts of one label: far from normal ones is odd, far from anomalous ones says nothing."""
    cheap, full = UNTAUGHT_CHEAP, UNTAUGHT_FULL
    if keys and keys[0].anomalous:
        cheap, full = (replace(one, weights={**one.weights, "novelty": 0.0}) for one in (cheap, full))
        cheap = replace(cheap, threshold=cheap.bias)
    if not goal.f1:
        cheap, full = (replace(one, threshold=goal.least_cost) for one in (cheap, full))
    return replace(judge, cheap=cheap, full=full)


def _tried(row: SourceSnapshot, keys: Sequence[_Key], chosen: Sequence[_Key]) -> list[PromptTrial]:
    """The cases to ask about, each with the examples that the others give it."""
    vectors, space = np.stack([key.vector for key in keys]), row.space or Representation()
    out = []
    for key in chosen:
        similar = vectors @ key.vector
        near = [(float(similar[i]), keys[i].case) for i in np.argsort(-similar)[:_NEAR] if keys[i] is not key]
        out.append(PromptTrial(space.masked(key.case), key.anomalous, examples_for(near)))
    return out


def _auc(scores: Sequence[float], anomalous: Sequence[bool]) -> float | None:
    """None with too few cases of a label to say."""
    if min(anomalous.count(True), anomalous.count(False)) < FEWEST:
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(anomalous, scores))
