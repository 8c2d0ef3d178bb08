"""From a casebook to a fitted source: detectors, out-of-fold signals of each case, and the fusion learned from these.

Read `fit_source` first; it is the order of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from agent.core.progress import Progress
from agent.core.records import SIGNALS
from agent.data.record_reading import has_own_text
from agent.detectors.base import SERIES, Detector
from agent.detectors.clauses import ClauseModel
from agent.detectors.contrib.resources import showing_training
from agent.detectors.field_expectations import FieldExpectations
from agent.detectors.language import LanguageDetector
from agent.detectors.persistence import FittedDetectors
from agent.detectors.tabular import TabularModel
from agent.detectors.text_classifier import TextClassifier
from agent.detectors.tree_learner import OutOfFoldScores
from agent.scoring.calibration import Objective, fit, reaching_bias
from agent.scoring.further_signals import Conditions, signals_that_help
from agent.scoring.fusion import (
    DEFAULT_WITH_LLM,
    DEFAULT_WITHOUT_LLM,
    FIELDS,
    OUTLIER_SCORE,
    Fusion,
    SourceModel,
)
from agent.scoring.target_weights import target_weights
from agent.training.contradictions import (
    contradictory_keys,
    fusion_of_contradictions,
    note_on_risk,
    notes_on_cases,
    pseudo_counts_of_contents,
)
from agent.training.contrib_choice import NO_CHOICE, ContribChoice, fusions_alone
from agent.training.first_corrections import corrected, with_one_label
from agent.training.fit_texts import fit_texts, rows_of_all_rounds
from agent.training.kinds import are_lines_of_templates, conditions_of_rows, conditions_of_texts
from agent.training.language_trial import NOT_TUNED, LanguageTrial, TunedLanguage
from agent.training.leave_one_out import CaseKey, InstalledScores, Template, fit_installed_detectors, leave_one_out
from retrieval.arrays import Floats
from retrieval.casebook import Casebook, SourceSnapshot, StoredCase
from retrieval.encoding.field_encoder import FieldEncoder, features
from retrieval.encoding.representation import Representation
from retrieval.store.copying import newest_given_at

# records below which fields are not learned; cases up to which a kind of anomaly counts by their number
_MIN_ROWS, _FULL_KIND = 8, 20


@dataclass(frozen=True)
class _Task:
    """What is fitted: the source, a case of each of its templates by key and label, and the aims."""

    row: SourceSnapshot
    by_key: Mapping[CaseKey, StoredCase]
    risk: float
    objective_name: str
    by_template: bool
    """Whether the texts are lines of templates, not prose."""
    contrib: tuple[str, ...]
    """The contrib detectors chosen for the source."""
    classes: Mapping[str, type[Detector]]
    """Those and the detectors of installed packages."""

    @classmethod
    def read(cls, casebook: Casebook, name: str, risk: float, objective: str | None, choice: ContribChoice) -> _Task:
        row = casebook.source(name)
        assert row is not None
        stored = casebook.by_template(name)
        contrib = choice.names_for(row)
        return cls(
            row,
            {key: case for key, (case, _) in stored.items()},
            risk,
            objective or (row.source_model or {}).get("objective") or "f1",
            are_lines_of_templates([count for _, count in stored.values()]),
            contrib,
            choice.classes(contrib),
        )

    @property
    def objective(self) -> Objective:
        return Objective.parse(self.objective_name)

    @property
    def representation(self) -> Representation:
        return self.row.representation or Representation()

    @property
    def by_fields(self) -> bool:
        return self.representation.field_encoder is not None

    def fusion(
        self,
        default: Fusion,
        rows: Sequence[Mapping[str, float | None]],
        anomalous: Sequence[bool],
        conditions: Callable[[], Conditions],
        weights: Sequence[float],
        rounds: int = 1,
    ) -> Fusion:
        """`agent.scoring.calibration.fit`, with the detectors that are not built in weighed where they help.

        Their weight is 0 in the prior, and 0 where they are not proven to help; the rest is then as without them. Those
        of time series have a weight in the prior.
        """
        further = sorted({name for row in rows for name in row} - set(SIGNALS) - default.weights.keys())
        if further:
            helpful = signals_that_help(default, further, rows, anomalous, weights, rounds, conditions())
            default = replace(default, weights={**default.weights, **dict.fromkeys(helpful, 0.0)})
        fusion = fit(default, rows, anomalous, weights, self.risk, self.objective, rounds)
        return replace(fusion, weights={**dict.fromkeys(further, 0.0), **fusion.weights})


def fit_source(
    casebook: Casebook,
    name: str,
    language: LanguageDetector | None,
    *,
    precedents: int,
    budget: int,
    risk: float,
    objective: str | None = None,
    choice: ContribChoice = NO_CHOICE,
    tuned: TunedLanguage = NOT_TUNED,
    progress: Progress | None = None,
) -> SourceModel:
    """Fit a source to its cases, and store the model and the detectors with it.

    Parameters
    ----------
    name : str
        The source.
    language : LanguageDetector or None
        The language model to try, with at most ``budget`` calls; None leaves it untried.
    precedents : int
        Nearest cases of each label that are retrieved.
    risk, objective
        See `agent.scoring.calibration.fit` and `Objective.parse`; by default the source keeps its objective.
    choice : ContribChoice
        The contrib detectors, and what they may use.
    tuned : TunedLanguage
        The adapter of the language model.
    """
    until = newest_given_at(casebook.engine, name)
    task = _Task.read(casebook, name, risk, objective, choice)
    if progress:
        progress("fitting", 0, 0)
    tabular, field_scores, normal, expectations = _fit_fields(task)
    with showing_training(progress):
        templates, distances, texts, extra = _score_templates(casebook, task, field_scores, precedents)
    contradictory = fusion_of_contradictions(task.by_key, task.row.counts)
    without_llm = _fuse_fields(task, tabular, field_scores, extra) if task.by_fields else _fuse_texts(task, templates)
    model = SourceModel(
        without_llm=without_llm,
        # the weight of a language model that was not tried is the default
        with_llm=reaching_bias(replace(DEFAULT_WITH_LLM, threshold=without_llm.threshold), task.objective),
        nn_distance_quantiles=tuple(map(float, np.quantile(distances, np.linspace(0, 1, 201)))) if distances else (),
        templates=len(templates),
        fitted_on=task.row.version,
        fitted_until=until.isoformat() if until else None,
        objective=task.objective_name,
        normal_field_encoder=normal.to_json() if normal else None,
        field_expectations=expectations.to_json() if expectations else None,
        by_text=bool(extra.detectors) or (texts is not None and not texts.by_template),
        detectors=tuple(detector.name for detector in extra.detectors),
        contrib=task.contrib,
        alone=fusions_alone(extra, task.risk, task.objective),
        notes=_notes(task, without_llm, contradictory),
        adapter=tuned.adapter.to_json() if tuned.adapter else None,
    )
    if task.by_fields:
        occurrences = {key: case.occurrences for key, case in task.by_key.items()}
        model = replace(model, content_pseudo_counts=pseudo_counts_of_contents(occurrences))
    if contradictory is not None:
        model = replace(model, without_llm=contradictory, with_llm=contradictory)
    elif not task.by_fields:
        model = with_one_label(model, templates, task.objective, task.risk)
    trained = texts is not None or (tabular is not None and tabular.supervised) or bool(model.weighed_detectors)
    trial = LanguageTrial(task.row, task.by_key, task.risk, task.objective, trained, tuned)
    # with a model of fields and no texts, the pipeline never queries the language model
    cases = () if contradictory or (task.by_fields and tabular) else templates
    model = trial.run(model, cases, language, budget, progress)
    if not (contradictory or task.by_fields):
        model = corrected(model, task.row, templates, language)
    # first corrections are too few to know which clauses are anomalous
    clauses = None if model.batch_reference else _fit_clauses(task, templates)
    fitted = FittedDetectors(tabular, texts, extra.detectors, clauses)
    casebook.set(name, source_model=model.to_json(), models=fitted.dumps())
    return model


def fusion_for_batch(
    casebook: Casebook, name: str, novelty: Floats, *, precedents: int, risk: float, choice: ContribChoice
) -> Fusion | None:
    """The fusion of a source of texts, fitted to cases that are weighted so that they are as novel as a batch.

    Parameters
    ----------
    novelty : shape (n,)
        The signal of the batch's records.

    Returns
    -------
    Fusion or None
        None if the batch is like the cases, or these do not tell the labels apart.
    """
    task = _Task.read(casebook, name, risk, None, choice)
    _, field_scores, _, _ = _fit_fields(task)
    templates, *_ = _score_templates(casebook, task, field_scores, precedents)
    rows, labels = rows_of_all_rounds(templates)
    if len(set(labels)) < 2 or fusion_of_contradictions(task.by_key, task.row.counts) is not None:
        return None
    weights = target_weights(np.array([row["novelty"] or 0.0 for row in rows]), novelty)
    return None if weights is None else _fuse_texts(task, templates, [float(weight) for weight in weights])


def _score_templates(
    casebook: Casebook, task: _Task, field_scores: OutOfFoldScores | None, precedents: int
) -> tuple[list[Template], list[float], TextClassifier | None, InstalledScores]:
    """The templates with all signals, their distances, and the detectors of texts and of installed packages."""
    templates, distances = leave_one_out(casebook, task.row, task.by_key, precedents)
    texts, templates = _fit_texts(task, templates, distances, precedents)
    templates = _with_field_scores(task, templates, field_scores)
    extra = fit_installed_detectors(task.classes, templates, task.by_key, task.representation)
    templates = [extra.added_to(template) for template in templates]
    return templates, distances, texts, extra


def _fit_texts(
    task: _Task, templates: list[Template], distances: Sequence[float], nearest: int
) -> tuple[TextClassifier | None, list[Template]]:
    if not templates or task.by_fields:
        return None, templates
    return fit_texts(templates, distances, task.representation, nearest, by_template=task.by_template)


def _notes(task: _Task, fusion: Fusion, contradictory: Fusion | None) -> tuple[str, ...]:
    notes = notes_on_cases(task.by_key, task.representation.kept, contradictory, task.by_fields)
    return notes + note_on_risk(fusion, task.risk, task.by_key)


def _fuse_texts(task: _Task, templates: Sequence[Template], weights: Sequence[float] | None = None) -> Fusion:
    rows, labels = rows_of_all_rounds(templates)
    rounds = max(1, len(rows) // max(1, len(templates)))

    def conditions() -> Conditions:
        vectors = np.stack([template.vector for template in templates])
        return conditions_of_texts(vectors, np.array(labels[: len(templates)]), rounds)

    return task.fusion(DEFAULT_WITHOUT_LLM, rows, labels, conditions, weights or [1.0] * len(rows), rounds)


# fields


def _fit_fields(
    task: _Task,
) -> tuple[TabularModel | None, OutOfFoldScores | None, FieldEncoder | None, FieldExpectations | None]:
    """The model of fields, its out-of-fold scores, the encoder of the normal cases, and what the fields hold."""
    cases = list(task.by_key.values())
    rows = [features(case.fields, case.events) for case in cases]
    if len(rows) < _MIN_ROWS or sum(map(bool, rows)) * 2 <= len(rows) or task.row.representation is None:
        return None, None, None, None
    model, scores = TabularModel.fit(
        rows,
        [case.events for case in cases],
        [case.label == "anomalous" for case in cases],
        [case.label_value for case in cases],
        [case.occurrences for case in cases],
    )
    normal_rows = [row for row, case in zip(rows, cases, strict=True) if case.label == "normal"]
    expectations = FieldExpectations.fit(
        [case.fields for case in cases],
        [case.events for case in cases],
        own_text=any(map(has_own_text, cases)),
    )
    return model, scores, FieldEncoder.fit(normal_rows) if normal_rows else None, expectations


def _fuse_fields(
    task: _Task, model: TabularModel | None, scores: OutOfFoldScores | None, extra: InstalledScores
) -> Fusion:
    """The fusion of trees and outlier score; each case counts as one of a known kind and as one of a new kind."""
    series = [detector.name for detector in extra.detectors if detector.needs == SERIES]
    if model is None or scores is None or not model.supervised:
        outlier_score = replace(OUTLIER_SCORE, threshold=task.objective.least_cost)
        return replace(outlier_score, weights=dict.fromkeys(series, 1 / len(series))) if series else outlier_score
    places = list(task.by_key)
    # a content with both labels is decided by its counts, and teaches nothing about unseen records
    mixed = contradictory_keys(places)
    usable = np.array([places[i][0] not in mixed for i in scores.indices]) & ~np.isnan(scores.fields)
    kinds, outlier = scores.kinds[usable], scores.outlier_score[usable]
    keys = [places[i] for i in scores.indices[usable]]
    anomalous = kinds > 0
    rare = min(anomalous.sum(), (~anomalous).sum())
    default = replace(FIELDS, weights={"fields": 1.0, "novelty": 3 / (10 + rare)})
    if series:
        # what its windows are like is known before there are labels
        default = replace(FIELDS, weights={"fields": 0.5, **dict.fromkeys(series, 1 / len(series))})
    rounds, weights = [(scores.fields[usable], extra.seen_kind)], np.ones(len(kinds))
    if scores.unseen_kind is not None:
        # the next anomaly may be of any kind, whichever was most frequent so far
        size = np.maximum(np.bincount(kinds), _FULL_KIND)
        weights = np.where(anomalous, 1 / size[kinds], 1.0)
        weights[anomalous] *= anomalous.sum() / weights[anomalous].sum()
        rounds.append((scores.unseen_kind[usable], extra.unseen_kind))
    rows = [
        {"fields": float(trees), "novelty": float(odd), **installed_scores.get(key, {})}
        for fields, installed_scores in rounds
        for key, trees, odd in zip(keys, fields, outlier, strict=True)
    ]
    labels = [bool(label) for label in anomalous] * len(rounds)
    conditions = partial(conditions_of_rows, kinds, len(rounds))
    return task.fusion(default, rows, labels, conditions, [float(w) for w in weights] * len(rounds))


def _with_field_scores(task: _Task, templates: Sequence[Template], scores: OutOfFoldScores | None) -> list[Template]:
    """The templates of texts with the out-of-fold log-odds of their fields, where they have fields."""
    if scores is None or task.by_fields:
        return list(templates)
    places = list(task.by_key)
    fields = {places[i]: float(value) for i, value in zip(scores.indices, scores.fields, strict=True)}
    return [template.with_signals({"fields": fields.get(template.key)}) for template in templates]


def _fit_clauses(task: _Task, templates: Sequence[Template]) -> ClauseModel | None:
    """The model of the clauses of texts."""
    if task.by_fields or not templates:
        return None
    mask, full_text = task.representation.mask, task.representation.full_text
    masked = [mask(full_text(template.case)) for template in templates]
    return ClauseModel.fit(masked, np.array([template.anomalous for template in templates]))
