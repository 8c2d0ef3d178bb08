"""Many rows of a table, or sessions, judged at once by arrays: their verdicts are those of `agent.pipeline.pipeline`.

Only what most rows and sessions need is here. Sources and rows that need more (a language model, segments, detectors of
other packages, the labels of known contents) are left to the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.numerics import expit
from agent.core.records import VERDICT_LABELS
from agent.detectors.field_expectations import FieldProblems, values_to_fill_in
from agent.detectors.novelty import unfamiliar_from
from agent.pipeline.context import AppContext
from agent.pipeline.decision import hides_an_anomaly
from agent.pipeline.steps import Steps
from retrieval.arrays import Bools, Floats, Ints
from retrieval.encoding.field_columns import Column, FieldColumns
from retrieval.encoding.field_encoder import EventCount
from retrieval.encoding.session_block import SessionBlock
from retrieval.index.exact import TIE
from retrieval.store.erasure import knows_erased
from retrieval.types import Vector

_NORMAL, _ANOMALOUS, _UNSURE = range(len(VERDICT_LABELS))
# signals of which the fusion of a table is made
_SIGNALS = frozenset({"fields", "novelty"})
# rows with values in place of missing ones that are scored at once
_FILLED_IN = 16_384
Labels = NDArray[np.int8]


@dataclass(frozen=True)
class BlockVerdicts:
    """What the verdicts on n rows hold.

    Parameters
    ----------
    labels : shape (n,)
        Indices in `VERDICT_LABELS`.
    probabilities : shape (n,)
    degraded : dict of int to tuple of str
        By index, of the rows whose verdict is degraded.
    nearest : callable
        Gives the ids of the nearest cases that have the label to which the rows at these indices, shape (k,), lean.
    """

    labels: Labels
    probabilities: Floats
    degraded: Mapping[int, tuple[str, ...]]
    nearest: Callable[[Ints], list[str | None]]


class BlockJudge:
    """Judges blocks of rows of one source as it is now.

    Attributes
    ----------
    is_able, is_able_to_judge_sessions : bool
        Whether the source's rows, and its sessions, can be judged by arrays.
    """

    def __init__(self, context: AppContext, steps: Steps, name: str) -> None:
        source, fitted = steps.fitted_source(name)
        model, representation = source.model, source.representation
        self._casebook, self._row, self._model, self._fields = context.casebook, source.row, model, fitted.fields
        self._encoder, self._expectations = representation.field_encoder, source.expectations
        self._fusion = model.without_llm
        others = representation.prose or representation.kept or model.only or model.detectors or fitted.installed
        # the pipeline says that of each verdict in `degraded`
        is_outdated = knows_erased(source.row.source_model)
        weighed = {signal for signal, weight in self._fusion.weights.items() if weight}
        self.is_able = bool(self._encoder and self._fields and self._expectations and source.row.source_model) and not (
            others or is_outdated or weighed - _SIGNALS
        )
        # values of missing columns are tried for rows of tables alone
        self.is_able_to_judge_sessions = self.is_able and not (self._expectations and self._expectations.required)
        if self._fields and self._encoder:
            self._names = frozenset((*self._encoder.numbers, *self._fields.columns.encoder.numbers))
        if self.is_able:
            self._casebook.sync_for_search(source.row)
            self._keys = {label: self._casebook.matrix(source.row, label)[0] for label in VERDICT_LABELS[:_UNSURE]}
            self._known = frozenset(key for keys in self._keys.values() for key in keys)
            self._ids: dict[str, dict[str, str]] = {label: {} for label in self._keys}

    def is_known(self, hashes: Sequence[str]) -> Bools:
        """Which of n contents are those of cases."""
        return np.fromiter((content in self._known for content in hashes), bool, len(hashes))

    def judge(self, records: FieldColumns | SessionBlock) -> BlockVerdicts:
        """Judge n records by their fields, or by their events; none of them is the content of a case."""
        if isinstance(records, FieldColumns):
            return self._judged(records, None)
        first, inverse = records.alike()
        sessions = records.take(first)
        verdicts = self._judged(sessions.columns(self._names), sessions)
        reasons = [verdicts.degraded.get(i) for i in range(len(first))]
        return BlockVerdicts(
            verdicts.labels[inverse],
            verdicts.probabilities[inverse],
            {i: reason for i, place in enumerate(inverse.tolist()) if (reason := reasons[place])},
            lambda indices: verdicts.nearest(inverse[indices]),
        )

    def _judged(self, rows: FieldColumns, sessions: SessionBlock | None) -> BlockVerdicts:
        encoder, expectations = self._encoder, self._expectations
        assert encoder is not None
        assert expectations is not None
        strange = self._is_strange(sessions, len(rows))
        probabilities, labels = self._decided(rows, sessions, strange)
        differs, unlike = expectations.differences(rows, sessions)
        problems = self._problems(rows, sessions, differs, unlike)
        # that a row is far from every case changes no other label
        untested = labels == _NORMAL
        untested[untested] = self._are_far(rows if untested.all() else rows.take(np.flatnonzero(untested)))
        for i, problem in problems.items():
            # a missing column alone makes a vector far from all others
            untested[i] &= not problem.missing
        untested[self._hiding(rows, problems, labels)] = True
        for i in np.flatnonzero(untested | (strange & (labels == _ANOMALOUS))).tolist():
            probability = float(probabilities[i])
            labels[i] = VERDICT_LABELS.index(self._fusion.widened_to(probability).label(probability))
        degraded = {}
        for i, problem in problems.items():
            if reason := problem.degraded(unlike=bool(labels[i] != _ANOMALOUS)):
                degraded[i] = (f"fields: {reason}",)

        def nearest(indices: Ints) -> list[str | None]:
            middle = expit(self._fusion.threshold)
            chosen = labels[indices]
            leans = np.where(chosen == _UNSURE, probabilities[indices] >= middle, chosen).astype(int)
            return self._case_ids(encoder.encode(rows.take(indices)), leans)

        return BlockVerdicts(labels, probabilities, degraded, nearest)

    def _is_strange(self, sessions: SessionBlock | None, size: int) -> Bools:
        """Which sessions have no event that a case has, where these have both labels."""
        assert self._encoder is not None
        if sessions is None or not self._row.counts.get("anomalous"):
            return np.zeros(size, bool)
        return ~sessions.any_of(np.array([EventCount(kind) in self._encoder.numbers for kind in sessions.kinds], bool))

    def _decided(
        self, rows: FieldColumns, sessions: SessionBlock | None = None, strange: Bools | None = None
    ) -> tuple[Floats, Labels]:
        """The probabilities and the labels by the signals alone, shapes (n,)."""
        assert self._fields is not None
        trees, outlier_score = self._fields.scores(rows, sessions)
        signals = {"fields": outlier_score} if trees is None else {"fields": trees, "novelty": outlier_score}
        log_odds = np.broadcast_to(self._fusion.log_odds(signals), len(rows))
        # by the same function as one record, of which `scipy.special.expit` differs in the last bit
        probabilities = np.array([expit(value) for value in log_odds.tolist()])
        for i in np.flatnonzero(strange).tolist() if strange is not None else ():
            probabilities[i] = self._fusion.modest(float(probabilities[i]))
        low, high = self._fusion.band
        labels = np.where(probabilities >= high, _ANOMALOUS, _NORMAL)
        labels[(low < probabilities) & (probabilities < high)] = _UNSURE
        return probabilities, labels.astype(np.int8)

    def _are_far(self, rows: FieldColumns) -> Bools:
        """Which rows are farther from every case than nearly any case is from the others."""
        assert self._encoder is not None
        distances = self._model.nn_distance_quantiles
        if not distances or not len(rows):
            return np.zeros(len(rows), bool)
        vectors = self._encoder.encode(rows, roughly=True)
        limit = unfamiliar_from(distances, few=False)
        similarity, enough = np.full(len(rows), -np.inf), 1 - limit + 3 * TIE
        for label in self._keys:
            rest = np.flatnonzero(similarity < enough)
            found = self._casebook.greatest_cosine(self._row, label, vectors[rest], enough)
            similarity[rest] = np.maximum(similarity[rest], found)
        close = np.flatnonzero(np.abs(1 - similarity - limit) <= 2 * TIE)
        if len(close):
            vectors = self._encoder.encode(rows.take(close))
            nearest = (self._casebook.nearest_one(self._row, label, vectors) for label in self._keys)
            similarity[close] = np.maximum(*(cosines for _, cosines in nearest))
        return np.asarray((1 - similarity > limit) & np.isfinite(similarity))

    def _problems(
        self, rows: FieldColumns, sessions: SessionBlock | None, differs: Bools, unlike: Bools
    ) -> dict[int, FieldProblems]:
        """What is wrong with records, by index; those without and with the same columns have the same problems."""
        expectations = self._expectations
        assert expectations is not None

        def problems_of(i: int) -> FieldProblems:
            return (
                expectations.problems(rows.row(i))
                if sessions is None
                else expectations.problems({}, sessions.session(i))
            )

        problems = {i: problems_of(i) for i in np.flatnonzero(unlike).tolist()}
        others = np.flatnonzero(differs.any(axis=1) & ~unlike)
        if len(others):
            _, first, pattern = np.unique(differs[others], axis=0, return_index=True, return_inverse=True)
            of_pattern = [problems_of(i) for i in others[first].tolist()]
            problems |= {i: of_pattern[j] for i, j in zip(others.tolist(), pattern.ravel().tolist(), strict=True)}
        return problems

    def _hiding(self, rows: FieldColumns, problems: Mapping[int, FieldProblems], labels: Labels) -> list[int]:
        """Which of the normal rows may be anomalous by what was not read of their fields."""
        assert self._fields is not None
        hiding, to_try = list[int](), dict[tuple[str, ...], list[int]]()
        for i, problem in problems.items():
            if labels[i] != _NORMAL:
                continue
            hides = hides_an_anomaly(problem, self._fusion, self._fields)
            if hides is None:
                to_try.setdefault(problem.missing, []).append(i)
            elif hides:
                hiding.append(i)
        for missing, indices in to_try.items():
            hiding += self._hiding_by_missing(rows, missing, np.array(indices))
        return hiding

    def _hiding_by_missing(self, rows: FieldColumns, missing: Sequence[str], indices: Ints) -> list[int]:
        """Which of the rows at ``indices`` are not normal with some value of the cases in the missing columns."""
        assert self._fields is not None
        filled = np.sum([rows[name].filled[indices] for name in rows.names], axis=0)
        hiding: list[int] = indices[filled < len(missing)].tolist()
        indices = indices[filled >= len(missing)]
        values = values_to_fill_in(missing, self._fields.columns)
        tried = {name: Column.of([row.get(name) for row in values]) for name in missing}
        step = max(1, _FILLED_IN // len(values))
        for start in range(0, len(indices), step):
            part = indices[start : start + step]
            every = np.tile(np.arange(len(values)), len(part))
            filled_in = rows.take(np.repeat(part, len(values)))
            filled_in = filled_in.with_columns({name: column.take(every) for name, column in tried.items()})
            labels = self._decided(filled_in)[1].reshape(len(part), len(values))
            hiding += part[(labels != _NORMAL).any(axis=1)].tolist()
        return hiding

    def _case_ids(self, vectors: Vector, leans: Ints) -> list[str | None]:
        """The ids of the nearest cases of rows that have these vectors, of the labels to which they lean."""
        ids: list[str | None] = [None] * len(vectors)
        for number, label in enumerate(self._keys):
            leaning = np.flatnonzero(leans == number)
            places, _ = self._casebook.nearest_one(self._row, label, vectors[leaning])
            chosen = leaning[places >= 0]
            keys = [self._keys[label][place] for place in places[places >= 0].tolist()]
            known = self._ids[label]
            if unknown := [key for key in dict.fromkeys(keys) if key not in known]:
                known |= self._casebook.case_ids(self._row.name, label, unknown)
            for i, key in zip(chosen.tolist(), keys, strict=True):
                ids[i] = known.get(key)
        return ids
