"""Signals to one calibrated probability, and to a label or "unsure".

Log-odds add up: a logistic model with non-negative weights, so that no witness can argue backwards. With no
labels the weights are the defaults below; a source's own cases pull away from them by maximum a posteriori
fitting, as strongly as they are many. Templates that the casebook already holds need no inference: there the
label counts speak alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agent.core.numerics import sigmoid
from agent.core.prompts import PromptVariant
from agent.core.records import WITNESSES, VerdictLabel

_DEFAULT_HALF_WIDTH = 0.6
# least distance, in log-odds, from the threshold to either end of the unsure band
NARROWEST = 0.2
# how far costs may move the threshold for what the casebook holds: one label, doubted, is worth 2.6 or more
_SETTLED = 1.9
LogOdds = Mapping[str, float | None]


@dataclass(frozen=True)
class Fusion:
    """``log-odds = bias + Σ weight · signal``; a signal that was not heard adds nothing.

    On the log-odds scale, ``threshold`` parts normal from anomalous, and the unsure band reaches ``half_width`` to
    both sides of it.
    """

    weights: dict[str, float]
    bias: float
    half_width: float = _DEFAULT_HALF_WIDTH
    threshold: float = 0.0

    def log_odds(self, signals: LogOdds) -> float:
        return self.bias + sum(self.weights[name] * (signals.get(name) or 0.0) for name in self.weights)

    @property
    def band(self) -> tuple[float, float]:
        return sigmoid(self.threshold - self.half_width), sigmoid(self.threshold + self.half_width)

    def widened_to(self, probability: float) -> Fusion:
        """This fusion with a band that reaches over ``probability`` too, around the same threshold."""
        z = math.log(probability / (1 - probability))
        return replace(self, half_width=max(self.half_width, abs(z - self.threshold) + NARROWEST))

    def label(self, probability: float) -> VerdictLabel:
        low, high = self.band
        if low < probability < high:
            return "unsure"
        return "anomalous" if probability >= high else "normal"


# what fitting starts from, and stays near with few cases
DEFAULT_FULL = Fusion({"language": 0.8, "neighbours": 0.5, "novelty": 0.15, "fields": 0.6}, bias=-0.5)
DEFAULT_CHEAP = Fusion({"neighbours": 0.8, "novelty": 0.25, "fields": 1.0}, bias=-0.3)
# without cases of both labels one record in twenty is taken to be anomalous; a word of the model is worth less than it
# seems, and of an ordinary record about +1 above that of an empty one (measured on the demo's log and on SMS)
UNTAUGHT_FULL = Fusion({"language": 0.7, "novelty": 0.4, "fields": 0.6}, bias=-3.0, threshold=-1.4)
UNTAUGHT_CHEAP = Fusion({"novelty": 0.8, "fields": 1.0}, bias=-3.0, threshold=-1.4)
# tables and sessions: what trees learned, and how odd the record is; without anomalous cases, oddness alone is `fields`
FIELDS = Fusion({"fields": 1.0, "novelty": 0.1}, bias=0.0)
# nobody has shown it what is anomalous, so that its band is wide
ODDNESS = Fusion({"fields": 1.0}, bias=0.0, half_width=1.2)
KNOWN = Fusion({"neighbours": 1.0}, bias=0.0)


@dataclass(frozen=True)
class SourceModel:
    """What a source's cases have taught: two fusions (with and without the language model) and references.

    ``nn_distance_quantiles``: quantiles of the cases' leave-one-out distances; ``keys``: how many distinct templates;
    ``way``: how the language model named in ``model`` is asked;
    ``language_auc``: how well it alone told the sampled cases apart, None when it was not tried on enough of them;
    ``language_range``: log-odds between which its word nearly always lies; ``language_note``: how it was tried;
    ``by_text``: whether what it says of an unknown template hangs on what masking hides.
    """

    full: Fusion = UNTAUGHT_FULL
    cheap: Fusion = UNTAUGHT_CHEAP
    nn_distance_quantiles: tuple[float, ...] = ()
    keys: int = 0
    way: PromptVariant = field(default_factory=PromptVariant)
    model: str | None = None
    language_auc: float | None = None
    language_range: tuple[float, float] = (-8.0, 8.0)
    language_note: str | None = None
    normal_axes: dict[str, Any] | None = None
    fitted_on: int = 0
    objective: str = "f1"
    by_text: bool = False

    @classmethod
    def unfitted(cls, counts: Mapping[str, int]) -> SourceModel:
        """Of a source with so many cases of each label that were never fitted."""
        return cls(DEFAULT_FULL, DEFAULT_CHEAP) if all(counts.values()) else cls()

    @classmethod
    def of(cls, said: Mapping[str, Any] | None, counts: Mapping[str, int]) -> SourceModel:
        """That which a source's row has ``said``, or the one of a source that was never fitted."""
        return cls.from_json(said) if said else cls.unfitted(counts)

    def fusion_for(self, signals: LogOdds, known: bool) -> Fusion:
        if known:
            # whatever mistakes cost, one label that a person gave to this very content settles it
            return replace(KNOWN, threshold=max(-_SETTLED, min(_SETTLED, self.cheap.threshold)))
        return self.full if signals.get("language") is not None else self.cheap

    def prompt_for(self, model: str) -> PromptVariant:
        return self.way if model == self.model else PromptVariant()

    def language_may_decide(self, signals: LogOdds) -> bool:
        """Whether hearing the language model could change the label that the other witnesses give, or make it sure.

        Its weight is not negative, so the ends of its range bound whatever it may say (value of information).
        """
        if not self.full.weights.get("language"):
            return False
        probability, fusion = fuse(self, {**signals, "language": None}, known=False)
        label = fusion.label(probability)
        words = (fuse(self, {**signals, "language": word}, known=False) for word in self.language_range)
        return label == "unsure" or any(fusion.label(probability) != label for probability, fusion in words)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SourceModel:
        return cls(
            **{
                **data,
                "full": Fusion(**data["full"]),
                "cheap": Fusion(**data["cheap"]),
                "way": PromptVariant(**data["way"]),
                "nn_distance_quantiles": tuple(data["nn_distance_quantiles"]),
                "language_range": tuple(data["language_range"]),
            }
        )


def fuse(judge: SourceModel, signals: LogOdds, known: bool) -> tuple[float, Fusion]:
    """The probability of *anomalous*, and the fusion that gave it. With no signal: the threshold, hence unsure."""
    fusion = judge.fusion_for(signals, known)
    if all(signals.get(name) is None for name in WITNESSES):
        return sigmoid(fusion.threshold), fusion
    return sigmoid(fusion.log_odds(signals)), fusion
