"""Every template of a casebook as all other templates see it: what the signals of new records are learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from agent.core.records import Record
from agent.detectors.base import Detector, DetectorInput, TrainingCase
from agent.detectors.kernel import kernel_log_ratio
from agent.detectors.novelty import novelty_log_odds
from agent.detectors.registry import InstalledDetector, fit_detectors
from agent.training.kinds import folds_of_kinds, kinds_of_templates, stratified_folds
from retrieval.casebook import Casebook, Neighbour, RetrievalResult, SourceSnapshot, StoredCase
from retrieval.encoding.field_encoder import features
from retrieval.encoding.representation import Representation
from retrieval.types import LABELS

_SAMPLE, _SEED, _BLOCK, _FOLDS = 5_000, 20_26, 512, 5
CaseKey = tuple[str, str]
# a case by its label and its row in that label's matrix
_Place = tuple[str, int]


@dataclass(frozen=True)
class Template:
    """One template of the casebook: a case of it, its vector, and its signals and neighbours without itself."""

    case: StoredCase
    vector: NDArray[np.float32]
    signals: dict[str, float | None]
    nearest: tuple[tuple[str, str, float], ...]
    """Key, label and similarity of the nearest templates, nearest first."""
    unseen_kind: Mapping[str, float | None] | None = None
    """Signals without all templates of its kind; None where kinds are not known."""

    @property
    def anomalous(self) -> bool:
        """Whether the case is labelled anomalous."""
        return self.case.label == "anomalous"

    @property
    def key(self) -> CaseKey:
        """Key and label of the case."""
        return self.case.key, self.case.label

    def with_signals(self, signals: Mapping[str, float | None]) -> Template:
        """The same template with these signals added."""
        return replace(self, signals={**self.signals, **signals})


@dataclass(frozen=True)
class InstalledScores:
    """Fitted detectors beside the built-in ones, and their out-of-fold log-odds by case.

    ``seen_kind`` is by detectors that have seen the case's kind of anomaly, ``unseen_kind`` by others.
    """

    detectors: tuple[InstalledDetector, ...] = ()
    seen_kind: Mapping[CaseKey, dict[str, float]] = field(default_factory=dict)
    unseen_kind: Mapping[CaseKey, dict[str, float]] = field(default_factory=dict)

    def added_to(self, template: Template) -> Template:
        """The template with these scores added to its signals."""
        added = template.with_signals(self.seen_kind.get(template.key, {}))
        if template.unseen_kind is None:
            return added
        return replace(added, unseen_kind={**template.unseen_kind, **self.unseen_kind.get(template.key, {})})


def leave_one_out(
    casebook: Casebook, row: SourceSnapshot, by_key: Mapping[CaseKey, StoredCase], k: int
) -> tuple[list[Template], list[float]]:
    """Score each template (a seeded sample of 5,000) by all others.

    Parameters
    ----------
    casebook, row
        Where the source's vectors are.
    by_key : mapping
        A case of each template, by key and label.
    k : int
        How many neighbours of each label are taken.

    Returns
    -------
    templates : list
        With the signals `neighbours` and `novelty`. Templates with both labels are left out: their label counts decide,
        and they teach nothing about unseen ones.
    distances : list
        Cosine distance of each template to its nearest other template, ascending.
    """
    keys: dict[str, list[str]] = {}
    matrices: dict[str, NDArray[np.float32]] = {}
    for label in LABELS:
        keys[label], matrices[label] = casebook.matrix(row, label)
    both = set(keys["normal"]) & set(keys["anomalous"])
    # a template that was added since the cases were read is left to the next fit
    usable = {(key, label) for key, label in by_key if key not in both}
    places = [(label, i) for label in LABELS for i, key in enumerate(keys[label]) if (key, label) in usable]
    if len(places) > _SAMPLE:
        chosen = np.random.default_rng(_SEED).choice(len(places), _SAMPLE, replace=False)
        places = [places[i] for i in sorted(chosen)]
    nearest: list[dict[str, list[tuple[int, float]]]] = []
    for start in range(0, len(places), _BLOCK):
        block = places[start : start + _BLOCK]
        vectors = np.stack([matrices[label][i] for label, i in block])
        by_label = {label: _nearest(vectors, label, block, matrices[label], k) for label in LABELS}
        nearest += [{label: by_label[label][at] for label in LABELS} for at in range(len(block))]
    top = [max((near[0][1] for near in of_case.values() if near), default=None) for of_case in nearest]
    distances = sorted(1 - similarity for similarity in top if similarity is not None)
    templates = []
    for (label, i), of_case, similarity in zip(places, nearest, top, strict=True):
        similarities = {other: [value for _, value in near] for other, near in of_case.items()}
        signals = {
            "neighbours": kernel_log_ratio(similarities["anomalous"], similarities["normal"]),
            "novelty": None if similarity is None else novelty_log_odds(1 - similarity, distances, len(distances)),
        }
        named = [(keys[other][j], other, value) for other, near in of_case.items() for j, value in near]
        named.sort(key=lambda neighbour: -neighbour[2])
        templates.append(Template(by_key[keys[label][i], label], matrices[label][i], signals, tuple(named)))
    return templates, distances


def fit_installed_detectors(
    classes: Mapping[str, type[Detector]],
    templates: Sequence[Template],
    by_key: Mapping[CaseKey, StoredCase],
    representation: Representation,
) -> InstalledScores:
    """The detectors beside the built-in ones, fitted, with out-of-fold log-odds by folds of cases and of kinds."""
    if not classes or not templates:
        return InstalledScores()
    cases = training_cases(templates, by_key, representation)
    anomalous = np.array([case.anomalous for case in cases])
    folds = stratified_folds(anomalous, _FOLDS, _SEED)
    if representation.field_encoder is None:
        kinds = kinds_of_templates(np.stack([template.vector for template in templates]))
        of_kinds = folds_of_kinds(kinds, anomalous, _FOLDS)
        kind_folds = folds if of_kinds is None else of_kinds
    else:
        numbers = {kind: number for number, kind in enumerate(sorted({case.kind or "" for case in cases}))}
        kind_folds = np.where(anomalous, [numbers[case.kind or ""] % _FOLDS for case in cases], folds)
    fitted = fit_detectors(classes, cases, [folds, kind_folds])

    def by_case(number: int) -> dict[CaseKey, dict[str, float]]:
        columns = {name: log_odds[number] for name, (_, log_odds) in fitted.items()}
        return {
            template.key: {name: float(column[i]) for name, column in columns.items() if not np.isnan(column[i])}
            for i, template in enumerate(templates)
        }

    return InstalledScores(tuple(detector for detector, _ in fitted.values()), by_case(0), by_case(1))


def training_cases(
    templates: Sequence[Template], by_key: Mapping[CaseKey, StoredCase], representation: Representation
) -> list[TrainingCase]:
    """The templates as these detectors learn from them."""
    none = dict.fromkeys(LABELS, 0)
    cases = []
    for template in templates:
        case = template.case
        near = [(by_key.get((key, label)), value) for key, label, value in template.nearest]
        neighbours = tuple(Neighbour(other, value) for other, value in near if other is not None)
        found = RetrievalResult(neighbours, none, none, template.vector)
        record = case_record(case)
        text = representation.comparable_text(case)
        seen = DetectorInput(record, text, representation.mask(text), features(record.fields, record.events), found)
        cases.append(TrainingCase(seen, template.anomalous, case.label_value, case.occurrences))
    return cases


def case_record(case: StoredCase) -> Record:
    """The record that a case is of, without its place."""
    return Record.model_validate(
        {"text": case.text, "fields": case.fields, "events": case.events, "series": case.series}
    )


def _nearest(
    vectors: NDArray[np.float32], label: str, block: Sequence[_Place], matrix: NDArray[np.float32], k: int
) -> list[list[tuple[int, float]]]:
    """Rows and similarities of each vector's nearest in the matrix of ``label``, itself left out, nearest first."""
    if not len(matrix):
        return [[] for _ in block]
    similar = vectors @ matrix.T
    for at, (of_label, i) in enumerate(block):
        if of_label == label:
            similar[at, i] = -np.inf
    order = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    return [
        [(int(i), float(row[i])) for i in indices if row[i] > -np.inf]
        for row, indices in zip(similar, order, strict=True)
    ]
