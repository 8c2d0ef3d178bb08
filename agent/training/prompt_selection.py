"""Selection of a source's prompt, the examples in it and its wording, by trial on the source's cases.

The best prompt differs by source and model. Each variant is tried on a few cases, the best one on more. The examples of
a case are its nearest cases of other templates.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agent.core.numerics import map_estimate
from agent.core.progress import Progress
from agent.core.prompts import PromptVariant
from agent.detectors.language import EXAMPLES, WORDINGS, LanguageDetector, NearCase, examples_for
from llm.errors import ModelFailure

# cases of each label below which a comparison says nothing
MIN_CASES = 8
# prior mean of the model's weight beside the other detectors
PRIOR_WEIGHT = 0.3
# share of the budget for the selection, and by how much a variant's mean log-loss must be less than the usual one's
_SELECTION_SHARE, _GAIN = 2 / 3, 0.02
# answers missing in a row after which a variant is not tried any further
_MAX_MISSING_IN_A_ROW = 8


@dataclass(frozen=True)
class PromptTrial:
    """A case to query the model about.

    Attributes
    ----------
    text : str
    anomalous : bool
    near : sequence of NearCase
        Its nearest cases, without itself and its template, the nearest first.
    others : float
        Log-odds of the other detectors, to which the model's are to add something.
    """

    text: str
    anomalous: bool
    near: Sequence[NearCase] = ()
    others: float = 0.0


@dataclass(frozen=True)
class PromptSelection:
    """The variant that was chosen, and what the model answered with it.

    Attributes
    ----------
    variant : PromptVariant
    log_odds : Mapping[int, float]
        Of *anomalous*, by the index of the case; a case without an answer is missing.
    missing : int
        How many of the cases that were queried got no answer.
    """

    variant: PromptVariant
    log_odds: Mapping[int, float]
    missing: int = 0


def select_prompt(
    detector: LanguageDetector,
    brief: str,
    cases: Sequence[PromptTrial],
    budget: int,
    progress: Progress | None = None,
    only: PromptVariant | None = None,
) -> PromptSelection:
    """Try the variants on as many of the first cases of each label as ``budget`` allows.

    Parameters
    ----------
    detector : LanguageDetector
    brief : str
    cases : Sequence[PromptTrial]
    budget : int
        The most queries of the model.
    progress : Progress, optional
    only : PromptVariant, optional
        The variant that the model was trained with: no other is tried.

    Raises
    ------
    ModelFailure
        The model is unavailable: it answered none of the cases.
    """
    trial = _Trial(detector, brief, cases, budget, progress)
    by_label = [[i for i, case in enumerate(cases) if case.anomalous is label] for label in (True, False)]
    without, *by_examples = [PromptVariant(examples=k, balanced=balanced) for k, balanced in EXAMPLES]
    variant = without
    per_label = 0 if only else int(budget * _SELECTION_SHARE) // (2 * (len(EXAMPLES) + len(WORDINGS) - 1))
    if per_label < MIN_CASES or min(map(len, by_label)) < MIN_CASES:
        per_label = 0
    else:
        first = [i for indices in by_label for i in indices[:per_label]]
        if any(case.near for case in cases) and trial.best(first, [without, by_examples[0]]) != without:
            variant = trial.best(first, by_examples)
        variant = trial.best(first, [replace(variant, wording=wording) for wording in WORDINGS])
    # some models answer a wording, or even the empty record in it, with neither label: the variant is missing
    variants = [only] if only else [variant, *(replace(variant, wording=wording) for wording in WORDINGS)]
    for candidate in dict.fromkeys(variants):
        most = (budget - trial.calls) // 2 + per_label
        # what the rarer label leaves over goes to the other one
        left_over = max(0, most - min(map(len, by_label)))
        answers = {i: trial.query(i, candidate) for indices in by_label for i in indices[: most + left_over]}
        log_odds = {i: answer for i, answer in answers.items() if answer is not None}
        if log_odds:
            reference = detector.content_free_log_odds(brief, candidate)
            missing = len(answers) - len(log_odds)
            return PromptSelection(replace(candidate, reference=reference), log_odds, missing)
    raise ModelFailure(trial.failure or "there are no cases")


@dataclass
class _Trial:
    """Queries the model about cases, each once with the same prompt."""

    detector: LanguageDetector
    brief: str
    cases: Sequence[PromptTrial]
    budget: int
    progress: Progress | None
    _answers: dict[tuple[int, str, tuple[NearCase, ...]], float | None] = field(default_factory=dict)
    _missing_in_a_row: Counter[PromptVariant] = field(default_factory=Counter)
    failure: str | None = None

    @property
    def calls(self) -> int:
        """How often the model was queried."""
        return len(self._answers)

    def query(self, i: int, variant: PromptVariant) -> float | None:
        """The log-odds for a case; None if the model gives no answer, or gave none to several cases of this variant."""
        case = self.cases[i]
        examples = examples_for(case.near, variant)
        key = (i, variant.wording, tuple(examples))
        if key not in self._answers and self._missing_in_a_row[variant] < _MAX_MISSING_IN_A_ROW:
            signal = self.detector.query(self.brief, case.text, variant, examples)
            if signal.log_odds is None:
                self._missing_in_a_row[variant] += 1
                self.failure = signal.degraded
            else:
                self._missing_in_a_row[variant] = 0
            self._answers[key] = signal.log_odds
            if self.progress:
                self.progress("querying the language model", self.calls, self.budget)
        return self._answers.get(key)

    def best(self, indices: Sequence[int], variants: Sequence[PromptVariant]) -> PromptVariant:
        """The variant with the least log-loss; the first that is answered unless another is clearly better."""
        losses = [self._log_loss(indices, variant) for variant in variants]
        usual = next((number for number, loss in enumerate(losses) if loss < math.inf), 0)
        best = int(np.argmin(losses))
        return variants[best if losses[best] <= losses[usual] - _GAIN else usual]

    def _log_loss(self, indices: Sequence[int], variant: PromptVariant) -> float:
        """Mean log-loss of the model's and the other detectors' log-odds, fused; infinite with too few answers."""
        answers = {i: self.query(i, variant) for i in indices}
        answered = [(self.cases[i], answer) for i, answer in answers.items() if answer is not None]
        y = np.array([case.anomalous for case, _ in answered], dtype=float)
        if min(y.sum(), len(y) - y.sum()) < MIN_CASES:
            return math.inf
        x = np.array([[case.others, answer, 1.0] for case, answer in answered])
        z = x @ map_estimate(x, y, np.ones(len(y)), np.array([1.0, PRIOR_WEIGHT, 0.0]))
        return float(np.mean(np.logaddexp(0, z) - y * z))


def roc_auc(log_odds: Sequence[float], anomalous: Sequence[bool]) -> float | None:
    """Area under the ROC curve; None with fewer than `MIN_CASES` cases of a label."""
    if min(anomalous.count(True), anomalous.count(False)) < MIN_CASES:
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(anomalous, log_odds))
