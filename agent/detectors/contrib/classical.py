"""One adapter for the outlier models of `scikit_models`, `dagmm`, `pyod_models`: on fields or embeddings of texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np

from agent.core.records import Signal
from agent.detectors.base import Detector, DetectorInput, Need, TrainingCase
from agent.detectors.conformal import ConformalNeighbours, ConformalTail
from agent.detectors.contrib import dagmm, pyod_models, scikit_models
from agent.detectors.contrib.conformal_score import cross_scores, signals
from agent.detectors.contrib.outlier_model import Spec
from agent.detectors.contrib.resources import NO_RESOURCES, Resources
from agent.detectors.tabular_encoder import TabularEncoder
from retrieval.arrays import Floats, Ints
from retrieval.encoding.field_columns import FieldColumns

SPECS: Mapping[str, Spec] = {**scikit_models.SPECS, **dagmm.SPECS, **pyod_models.SPECS}
# normal cases that a model is fitted to at least
_FEWEST = 10
_SEED = 20_26


class ClassicalDetector(Detector):
    """An outlier model of the normal cases; a subclass has its ``spec`` and ``name``, see `detector`.

    Parameters
    ----------
    scales : ConformalNeighbours or None
        How fields become numbers; None where embeddings of texts are compared.
    model : Any
        A fitted model of the ``spec``.
    tail : ConformalTail
        Of the out-of-fold scores of normal cases.
    unseen : shape (n,), optional
        Scores of the cases that it was fitted on, each by a model that has not seen it.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset({"text", "fields", "events"})
    spec: ClassVar[Spec]
    on_text: ClassVar[bool]
    resources: ClassVar[Resources] = NO_RESOURCES

    def __init__(
        self, scales: ConformalNeighbours | None, model: Any, tail: ConformalTail, unseen: Floats | None = None
    ) -> None:
        self._scales, self._model, self._tail, self._unseen = scales, model, tail, unseen

    @classmethod
    def fit(cls, cases: Sequence[TrainingCase]) -> Self | None:
        """The detector fitted on the normal cases, a seeded sample of them; None with fewer than ten."""
        normal = np.flatnonzero([not case.anomalous for case in cases])
        kept = np.sort(np.random.default_rng(_SEED).permutation(normal)[: cls.spec.most])
        if len(kept) < _FEWEST:
            return None
        inputs = [case.input for case in cases]
        scales = None
        if cls.resources.by_fields and not cls.on_text:
            rows = [inputs[i].features for i in kept]
            scales = ConformalNeighbours.scaled(TabularEncoder.fit(rows), FieldColumns.of(rows))
        x = cls._matrix(scales, inputs)
        if not x.shape[1]:
            return None
        spec = cls.spec.of_size(len(kept))
        fitted = np.zeros(len(cases), dtype=bool)
        fitted[kept] = True
        unseen = cross_scores(fitted, lambda fit, held_out: spec.scores(spec.fitted(x[fit]), x[held_out]), spec.folds)
        return cls(scales, spec.fitted(x[kept]), ConformalTail(np.sort(unseen[kept])), unseen)

    def out_of_fold(self, cases: Sequence[TrainingCase], folds: Ints) -> Floats:
        """See `Detector.out_of_fold`; the folds of the fit serve for any, because no anomalous case is fitted on."""
        assert self._unseen is not None
        assert len(self._unseen) == len(cases)
        return self._tail.log_odds(self._unseen)

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """See `Scorer.score`."""
        return signals(self.spec.label, self._tail, self.spec.scores(self._model, self._matrix(self._scales, records)))

    @classmethod
    def _matrix(cls, scales: ConformalNeighbours | None, records: Sequence[DetectorInput]) -> Floats:
        """Fields as standardised numbers, or embeddings: shape (n, columns)."""
        if scales is not None:
            return scales.vectors(FieldColumns.of([record.features for record in records]))
        found = [record.found.vector for record in records]
        if cls.resources.by_fields or any(vector is None for vector in found):
            return np.array(cls.resources.embed([record.text for record in records]), dtype=np.float64)
        return np.array(found, dtype=np.float64)

    def save(self) -> Mapping[str, Any]:
        """See `Detector.save`."""
        state = {"tail": self._tail.values, **self.spec.dumps(self._model)}
        if self._scales is None:
            return state
        columns = json.dumps(self._scales.columns.to_json(), ensure_ascii=True)
        return {**state, "columns": columns, "centre": self._scales.centre, "scale": self._scales.scale}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """See `Detector.load`."""
        scales, none = None, ConformalTail(np.zeros(1))
        if "columns" in state:
            columns = TabularEncoder.from_json(json.loads(str(state["columns"])))
            scales = ConformalNeighbours(columns, state["centre"], state["scale"], np.zeros((0, 0)), none)
        return cls(scales, cls.spec.loads(state), ConformalTail(state["tail"]))


@cache
def detector(name: str) -> type[ClassicalDetector]:
    """The class of a model by its name in `SPECS`, or by that name and ``_text``: on embeddings in any source."""
    base = name if name in SPECS else name.removesuffix("_text")
    return type(f"Classical_{name}", (ClassicalDetector,), {"name": name, "spec": SPECS[base], "on_text": base != name})
