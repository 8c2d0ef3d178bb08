"""Detectors that are not trained: similarity to what the brief describes, and natural language inference.

Their scores of labelled cases are out of fold, because nothing was fitted on these but the calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import DetectorError, UsageError
from agent.core.records import Signal
from agent.detectors.base import Detector, DetectorInput, Need, TrainingCase
from agent.detectors.conformal import ConformalTail
from agent.detectors.contrib.conformal_score import finite, signals
from agent.detectors.contrib.descriptions import descriptions
from agent.detectors.contrib.resources import NO_RESOURCES, Resources, chosen_device
from retrieval.arrays import Floats, Ints

_FEWEST = 10
# differences of similarity that count as much as one step of the log-sum-exp
_TEMPERATURE = 0.05
_NORMAL, _ANOMALOUS = "normal operation", "an anomaly or a fault"
_DESCRIPTION_CHARS = 200


class UntrainedDetector(Detector):
    """A detector whose scores need no fit; the normal cases' scores are its reference."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset({"text", "fields", "events"})
    label: ClassVar[str]
    resources: ClassVar[Resources] = NO_RESOURCES

    tail: ConformalTail
    unseen: Floats | None = None

    def raw(self, records: Sequence[DetectorInput]) -> Floats:
        """Scores of n records, shape (n,), higher for what is more anomalous."""
        raise NotImplementedError

    def calibrated(self, cases: Sequence[TrainingCase]) -> Self | None:
        """The same with the reference of the normal cases; None if there are fewer than ten."""
        anomalous = np.array([case.anomalous for case in cases])
        if (~anomalous).sum() < _FEWEST:
            return None
        scores = self.raw([case.input for case in cases])
        self.tail = ConformalTail(np.sort(scores[~anomalous]))
        self.unseen = self.tail.log_odds(scores)
        return self

    def out_of_fold(self, cases: Sequence[TrainingCase], folds: Ints) -> Floats:
        """See `Detector.out_of_fold`: the scores as they are."""
        assert self.unseen is not None
        return self.unseen

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """See `Scorer.score`."""
        return signals(self.label, self.tail, self.raw(records))


class BriefSimilarity(UntrainedDetector):
    """How much nearer a record's embedding is to what the brief calls anomalous than to what it calls normal.

    Parameters
    ----------
    normal, anomalous : shape (clauses, dimensions)
        Unit vectors of the brief's clauses.
    """

    name: ClassVar[str] = "zeroshot"
    label: ClassVar[str] = "nearer to what the brief calls anomalous"

    def __init__(self, normal: NDArray[np.float32], anomalous: NDArray[np.float32]) -> None:
        self._normal, self._anomalous = normal, anomalous

    @classmethod
    def fit(cls, cases: Sequence[TrainingCase]) -> Self | None:
        """See `Detector.fit`; None if the brief does not describe records of both labels."""
        texts = descriptions(cls.resources.brief)
        if not all(texts.values()):
            return None
        normal, anomalous = (np.array(cls.resources.embed(texts[label])) for label in ("normal", "anomalous"))
        return cls(normal, anomalous).calibrated(cases)

    def raw(self, records: Sequence[DetectorInput]) -> Floats:
        """See `UntrainedDetector.raw`."""
        found = [record.found.vector for record in records]
        if self.resources.by_fields or any(vector is None for vector in found):
            vectors = np.array(self.resources.embed([record.text for record in records]))
        else:
            vectors = np.array(found)
        return finite(_soft_max(vectors @ self._anomalous.T) - _soft_max(vectors @ self._normal.T))

    def save(self) -> Mapping[str, Any]:
        """See `Detector.save`."""
        return {"normal": self._normal, "anomalous": self._anomalous, "tail": self.tail.values}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """See `Detector.load`."""
        detector = cls(state["normal"], state["anomalous"])
        detector.tail = ConformalTail(state["tail"])
        return detector


def _soft_max(similarity: NDArray[np.float32]) -> Floats:
    """The mean of similarities, shape (n, clauses), in which the largest weigh most: shape (n,)."""
    from scipy.special import logsumexp

    clauses = similarity.shape[1]
    total = np.asarray(logsumexp(similarity / _TEMPERATURE, axis=1), dtype=np.float64)
    return np.asarray(_TEMPERATURE * (total - np.log(clauses)))


class Inference(UntrainedDetector):
    """A model of natural language inference: whether a record entails what the brief says of either label.

    Parameters
    ----------
    model : str
        Path or hub name of the model.
    normal, anomalous : str
        The two candidate descriptions.
    """

    name: ClassVar[str] = "nli"
    label: ClassVar[str] = "the inference model's answer"

    def __init__(self, model: str, normal: str, anomalous: str) -> None:
        self._model, self._normal, self._anomalous = model, normal, anomalous

    @classmethod
    def fit(cls, cases: Sequence[TrainingCase]) -> Self | None:
        """See `Detector.fit`."""
        if not cls.resources.option:
            raise UsageError("the detector nli takes a model: --detector nli=FOLDER, or a name of the hub")
        texts = descriptions(cls.resources.brief)
        normal, anomalous = (", ".join(texts[label])[:_DESCRIPTION_CHARS] for label in ("normal", "anomalous"))
        return cls(cls.resources.option, normal or _NORMAL, anomalous or _ANOMALOUS).calibrated(cases)

    def raw(self, records: Sequence[DetectorInput]) -> Floats:
        """See `UntrainedDetector.raw`."""
        classify = _pipeline(self._model, self.resources.device, self.resources.offline)
        texts = [record.text or " " for record in records]
        answers = classify(texts, [self._normal, self._anomalous], hypothesis_template="This record is: {}.")
        odds = []
        for answer in answers:
            score = dict(zip(answer["labels"], answer["scores"], strict=True))
            odds.append(np.log(max(score[self._anomalous], 1e-9)) - np.log(max(score[self._normal], 1e-9)))
        # the other records of a batch change an answer in the seventh digit
        return np.round(finite(odds), 4)

    def save(self) -> Mapping[str, Any]:
        """See `Detector.save`."""
        return {"path": self._model, "normal": self._normal, "anomalous": self._anomalous, "tail": self.tail.values}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """See `Detector.load`."""
        detector = cls(*(str(state[name]) for name in ("path", "normal", "anomalous")))
        detector.tail = ConformalTail(state["tail"])
        return detector


@lru_cache(maxsize=1)
def _pipeline(model: str, device: str, offline: bool) -> Any:
    """The zero-shot pipeline of a model.

    Raises
    ------
    DetectorError
        The model cannot be loaded, or is not one of natural language inference.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    try:
        network = AutoModelForSequenceClassification.from_pretrained(model, local_files_only=offline)
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=offline)
    except (OSError, ValueError) as error:
        raise DetectorError(f"the inference model {model!r} of the detector nli cannot be loaded: {error}") from error
    labels = [str(label).lower() for label in network.config.id2label.values()]
    if not any(label.startswith("entail") for label in labels):
        raise DetectorError(f"{model!r} is no model of natural language inference: its labels are {', '.join(labels)}")
    return pipeline("zero-shot-classification", network, tokenizer=tokenizer, device=chosen_device(device))
