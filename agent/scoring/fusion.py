"""Signals to one calibrated probability, and to a label or "unsure".

Log-odds add up: a logistic model with non-negative weights, so that more evidence for an anomaly never lowers its
probability. Without labels the weights are the defaults below; a source's cases pull away from them by maximum a
posteriori fitting (`agent.scoring.calibration`). Templates that the casebook holds are decided by their labels alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, overload

from agent.core.numerics import expit, logit
from agent.core.prompts import PromptVariant
from agent.core.records import SIGNALS, VerdictLabel
from retrieval.arrays import Floats
from retrieval.store.erasure import KNOWS_ERASED

_DEFAULT_HALF_WIDTH = 0.6
# least distance, in log-odds, from the threshold to either end of the unsure band
NARROWEST = 0.2
# greatest log-odds above the threshold of a record that resembles no case
_MODEST = 1.0
# how far costs may move the threshold for known templates: one label is worth 2.6 or more
_MAX_KNOWN_THRESHOLD = 1.9
# pseudo-counts, normal and anomalous: how much one label given to the very content of a record is worth
CONTENT_PSEUDO_COUNTS = 0.04, 0.04
LogOdds = Mapping[str, float | None]


@dataclass(frozen=True)
class Fusion:
    """``log-odds = bias + Σ weight · signal``; a signal that is None adds nothing.

    Parameters
    ----------
    weights : dict
        Non-negative, by detector name.
    bias : float
        Log-odds without any evidence.
    half_width : float
        Distance from the threshold to either end of the unsure band, in log-odds.
    threshold : float
        Log-odds that separate normal from anomalous.
    risk_kept : bool or None
        Whether the error of the decided cases stays under the source's risk; None if that was not tested.
    """

    weights: dict[str, float]
    bias: float
    half_width: float = _DEFAULT_HALF_WIDTH
    threshold: float = 0.0
    risk_kept: bool | None = None

    @overload
    def log_odds(self, signals: LogOdds) -> float: ...

    @overload
    def log_odds(self, signals: Mapping[str, Floats]) -> Floats: ...

    def log_odds(self, signals: Mapping[str, Any]) -> Any:
        """The fused log-odds of *anomalous*: of one record, or of n records whose signals are of shape (n,)."""
        given = [(weight, signals.get(name)) for name, weight in self.weights.items()]
        return self.bias + sum(weight * log_odds for weight, log_odds in given if log_odds is not None)

    @property
    def band(self) -> tuple[float, float]:
        """The two ends of the unsure band, as probabilities."""
        return expit(self.threshold - self.half_width), expit(self.threshold + self.half_width)

    def widened_to(self, probability: float) -> Fusion:
        """The same fusion with a band that also holds ``probability``, around the same threshold."""
        distance = abs(logit(probability) - self.threshold)
        return replace(self, half_width=max(self.half_width, distance + NARROWEST))

    def modest(self, probability: float) -> float:
        """A ``probability`` above the threshold, held near it; smoothly, so that such records still rank."""
        above = logit(probability) - self.threshold
        return expit(self.threshold + _MODEST * math.tanh(above / _MODEST)) if above > 0 else probability

    def label(self, probability: float) -> VerdictLabel:
        """The label of a record with this ``probability`` of *anomalous*."""
        low, high = self.band
        if low < probability < high:
            return "unsure"
        return "anomalous" if probability >= high else "normal"


# means of the priors
DEFAULT_WITH_LLM = Fusion({"language": 0.8, "neighbours": 0.5, "novelty": 0.15, "fields": 0.6}, bias=-0.5)
DEFAULT_WITHOUT_LLM = Fusion({"neighbours": 0.8, "novelty": 0.25, "fields": 1.0}, bias=-0.3)
# Without cases of both labels one record in twenty is taken to be anomalous. The language model's log-odds are too
# extreme, and of an ordinary record about 1 above that of an empty one (measured on the demo's log and on SMS).
UNLABELLED_WITH_LLM = Fusion({"language": 0.7, "novelty": 0.4, "fields": 0.6}, bias=-3.0, threshold=-1.4)
UNLABELLED_WITHOUT_LLM = Fusion({"novelty": 0.8, "fields": 1.0}, bias=-3.0, threshold=-1.4)
# tables and sessions with cases of both labels
FIELDS = Fusion({"fields": 1.0, "novelty": 0.1}, bias=0.0)
# tables and sessions with (nearly) only normal cases: `fields` is the outlier score, and the band is wide
OUTLIER_SCORE = Fusion({"fields": 1.0}, bias=0.0, half_width=1.2)
KNOWN = Fusion({"neighbours": 1.0}, bias=0.0)


def base_rate(share: float) -> Fusion:
    """The fusion where nothing but the ``share`` of anomalous cases is known: its verdicts are unsure."""
    bias = logit(share)
    return Fusion({}, bias=bias, threshold=bias)


@dataclass(frozen=True)
class SourceModel:
    """What was fitted to a source's cases, except the detectors: two fusions and reference values.

    Parameters
    ----------
    with_llm, without_llm : Fusion
        With and without the language model.
    nn_distance_quantiles : tuple of float
        Quantiles of the cases' leave-one-out distances to their nearest case, ascending.
    templates : int
        Number of distinct templates.
    prompt : PromptVariant
        How the language model named in ``model`` is queried.
    model : str or None
        Name of the language model that was tried on the cases, or that had no weight to be tried for.
    language_auc : float or None
        AUC of the language model alone on the sampled cases; None when it was not tried on enough of them.
    language_range : (float, float)
        Log-odds between which nearly all answers of the language model lie.
    language_note : str or None
        How the language model was tried, in words.
    normal_field_encoder : dict or None
        The `FieldEncoder` of the normal cases, as JSON.
    field_expectations : dict or None
        The `agent.detectors.field_expectations.FieldExpectations` of the cases, as JSON.
    fitted_on, restored_on, challenged_on : int
        Version of the casebook; the one at which a person went back to this fit, 0 if nobody did; and the one at which
        a newer fit was compared with this one and was worse, 0 if none was.
    fitted_until : str or None
        When the newest of the cases was given, ISO 8601 in UTC; None where that was not noted.
    objective : str
        See `agent.scoring.calibration.Objective.parse`.
    by_text : bool
        Whether the verdict on an unknown template depends on what masking hides.
    detectors : tuple of str
        Names of the fitted detectors of installed packages and of `contrib`.
    contrib : tuple of str
        Names of the detectors of `agent.detectors.contrib` that were chosen for the source.
    alone : dict
        For each of ``detectors``, its own fusion: how a record is judged by that detector alone.
    only : str or None
        The detector by which alone this model judges, not even by the labels of known templates; None for all.
    notes : tuple of str
        What a person should know of the cases: contradictions, numbers that are not masked.
    content_pseudo_counts : (float, float)
        What is added to the numbers of normal and anomalous cases of a record's very content; more than
        `CONTENT_PSEUDO_COUNTS` where cases of equal fields have different labels.
    batch_reference : dict or None
        The `agent.detectors.language.BatchReference` of a source without cases, as JSON.
    adapter : dict or None
        The `agent.detectors.lora.SourceAdapter` of the language model, as JSON.
    """

    with_llm: Fusion = UNLABELLED_WITH_LLM
    without_llm: Fusion = UNLABELLED_WITHOUT_LLM
    nn_distance_quantiles: tuple[float, ...] = ()
    templates: int = 0
    prompt: PromptVariant = field(default_factory=PromptVariant)
    model: str | None = None
    language_auc: float | None = None
    language_range: tuple[float, float] = (-8.0, 8.0)
    language_note: str | None = None
    normal_field_encoder: dict[str, Any] | None = None
    field_expectations: dict[str, Any] | None = None
    fitted_on: int = 0
    restored_on: int = 0
    challenged_on: int = 0
    fitted_until: str | None = None
    objective: str = "f1"
    by_text: bool = False
    detectors: tuple[str, ...] = ()
    contrib: tuple[str, ...] = ()
    alone: dict[str, Fusion] = field(default_factory=dict)
    only: str | None = None
    notes: tuple[str, ...] = ()
    content_pseudo_counts: tuple[float, float] = CONTENT_PSEUDO_COUNTS
    batch_reference: dict[str, Any] | None = None
    adapter: dict[str, Any] | None = None

    @property
    def not_fitted(self) -> tuple[str, ...]:
        """Names of the chosen detectors that could not be fitted; none where the source judges by one alone."""
        chosen = [] if self.only else [name.partition("=")[0] for name in self.contrib]
        return tuple(name for name in chosen if name not in self.detectors)

    @classmethod
    def unfitted(cls, counts: Mapping[str, int]) -> SourceModel:
        """The model of a source that was never fitted, from its ``counts`` of cases by label."""
        return cls(DEFAULT_WITH_LLM, DEFAULT_WITHOUT_LLM) if all(counts.values()) else cls()

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None, counts: Mapping[str, int]) -> SourceModel:
        """The ``stored`` model of a source, or `unfitted` if there is none."""
        return cls.from_json(stored) if stored else cls.unfitted(counts)

    @property
    def weighed_detectors(self) -> tuple[str, ...]:
        """Those of ``detectors`` that verdicts depend on; the others' signals are shown only."""
        return tuple(name for name in self.detectors if self.without_llm.weights.get(name))

    @property
    def deciding(self) -> tuple[str, ...]:
        """The names of the signals that verdicts may depend on."""
        return (*SIGNALS, *self.weighed_detectors)

    def has_evidence(self, signals: LogOdds) -> bool:
        """Whether any detector that verdicts may depend on gave a signal."""
        return any(signals.get(name) is not None for name in self.deciding)

    def fusion_for(self, signals: LogOdds, known: bool) -> Fusion:
        """The fusion that applies to these signals; ``known``: whether the casebook has the record's template."""
        if self.only is not None:
            return self.without_llm
        if known:
            # whatever errors cost, one label that a person gave to this very content decides
            threshold = max(-_MAX_KNOWN_THRESHOLD, min(_MAX_KNOWN_THRESHOLD, self.without_llm.threshold))
            known_fusion = replace(KNOWN, threshold=threshold)
            if self.content_pseudo_counts == CONTENT_PSEUDO_COUNTS:
                return known_fusion
            # cases of equal content disagree as unlike ones do
            return replace(known_fusion, half_width=max(KNOWN.half_width, self.without_llm.half_width))
        return self.with_llm if signals.get("language") is not None else self.without_llm

    def prompt_for(self, model: str) -> PromptVariant | None:
        """How the language model of this name is queried; None if its weight is that of another model.

        The weight of a model that was tried on cases of both labels holds for that model alone.
        """
        if model == self.model:
            return self.prompt
        return PromptVariant() if self.language_auc is None else None

    @property
    def language_unused(self) -> str | None:
        """Why no language model is queried about this source's records; None if one is."""
        if self.with_llm.weights.get("language"):
            return None
        return self.language_note or "the language model was not tried when this source was learned: not used"

    def language_may_decide(self, signals: LogOdds) -> bool:
        """Whether querying the language model could change the label of the other signals, or make it sure.

        Its weight is not negative, so the ends of its range bound whatever it may add (value of information).
        """
        if not self.with_llm.weights.get("language"):
            return False
        probability, fusion = fuse(self, {**signals, "language": None}, known=False)
        label = fusion.label(probability)
        ends = (fuse(self, {**signals, "language": log_odds}, known=False) for log_odds in self.language_range)
        return label == "unsure" or any(fusion.label(probability) != label for probability, fusion in ends)

    def to_json(self) -> dict[str, Any]:
        """The model as plain values, see `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SourceModel:
        """The model that `to_json` gave ``data`` of."""
        return cls(
            **{
                **{name: value for name, value in data.items() if name != KNOWS_ERASED},
                "with_llm": Fusion(**data["with_llm"]),
                "without_llm": Fusion(**data["without_llm"]),
                "prompt": PromptVariant.from_json(data["prompt"]),
                "nn_distance_quantiles": tuple(data["nn_distance_quantiles"]),
                "language_range": tuple(data["language_range"]),
                "detectors": tuple(data.get("detectors", ())),
                "contrib": tuple(data.get("contrib", ())),
                "alone": {name: Fusion(**fusion) for name, fusion in data.get("alone", {}).items()},
                "notes": tuple(data.get("notes", ())),
                "content_pseudo_counts": tuple(data.get("content_pseudo_counts", CONTENT_PSEUDO_COUNTS)),
            }
        )


def fuse(model: SourceModel, signals: LogOdds, known: bool) -> tuple[float, Fusion]:
    """The probability of *anomalous*, and the fusion that gave it; without any signal the threshold, hence unsure."""
    fusion = model.fusion_for(signals, known)
    if not model.has_evidence(signals):
        return expit(fusion.threshold), fusion
    return expit(fusion.log_odds(signals)), fusion
