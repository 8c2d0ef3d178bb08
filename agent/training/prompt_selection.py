"""Selection of a source's prompt: the wording, and whether it has examples, by trial on the source's cases.

The best wording differs by source and model. Each wording is tried on a few cases, the best one on more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.core.prompts import PromptVariant
from agent.detectors.language import WORDINGS, LanguageDetector
from llm.errors import ModelFailure

# cases of each label below which an AUC says nothing, and what a variant must gain over the default one
MIN_CASES, _GAIN = 8, 0.05
# share of the calls that find out whether examples help
_EXAMPLES_SHARE = 1 / 8
# answers missing in a row after which a wording is not tried any further
_MAX_MISSING_IN_A_ROW = 8
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PromptTrial:
    """A case to query the model about; ``examples`` are what its nearest precedents give it."""

    text: str
    anomalous: bool
    examples: Sequence[Mapping[str, str]] = ()


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
) -> PromptSelection:
    """Try the wordings on as many of the first cases of each label as ``budget`` allows.

    Parameters
    ----------
    detector : LanguageDetector
    brief : str
    cases : Sequence[PromptTrial]
    budget : int
        The most queries of the model.
    progress : Progress, optional

    Raises
    ------
    ModelFailure
        The model is unavailable: it answered none of the cases, or not the content-free record.
    """
    trial = _Trial(detector, brief, cases, budget, progress)
    by_label = [[i for i, case in enumerate(cases) if case.anomalous is label] for label in (True, False)]
    wording, per_label = WORDINGS[0], budget // (4 * len(WORDINGS))
    if per_label >= MIN_CASES and min(map(len, by_label)) >= MIN_CASES:
        first = [i for indices in by_label for i in indices[:per_label]]
        aucs = {candidate: trial.auc(first, candidate) for candidate in WORDINGS}
        best = max(WORDINGS, key=lambda candidate: aucs[candidate])
        wording = best if aucs[best] >= aucs[wording] + _GAIN else wording
    else:
        per_label = 0
    for_examples = int(budget * _EXAMPLES_SHARE)
    most = per_label + (budget - trial.calls - for_examples) // 2
    answers = {i: trial.query(i, wording) for indices in by_label for i in indices[:most]}
    log_odds = {i: answer for i, answer in answers.items() if answer is not None}
    if answers and not log_odds:
        raise ModelFailure(trial.failure or "it gave no answer")
    with_examples = [[i for i in indices[:most] if cases[i].examples][: for_examples // 2] for indices in by_label]
    examples_help = False
    if min(map(len, with_examples)) >= MIN_CASES:
        both = [i for indices in with_examples for i in indices]
        examples_help = trial.auc(both, wording, examples=True) >= trial.auc(both, wording) + _GAIN
    reference = detector.content_free_log_odds(brief, PromptVariant(wording))
    return PromptSelection(PromptVariant(wording, reference, examples_help), log_odds, len(answers) - len(log_odds))


@dataclass
class _Trial:
    """Queries the model about cases, each once with the same prompt."""

    detector: LanguageDetector
    brief: str
    cases: Sequence[PromptTrial]
    budget: int
    progress: Progress | None
    _answers: dict[tuple[int, str, bool], float | None] = field(default_factory=dict)
    _missing_in_a_row: Counter[str] = field(default_factory=Counter)
    failure: str | None = None

    @property
    def calls(self) -> int:
        """How often the model was queried."""
        return len(self._answers)

    def query(self, i: int, wording: str, examples: bool = False) -> float | None:
        """The log-odds for a case; None if the model gives no answer, or gave none to several cases of this wording."""
        key = (i, wording, examples)
        if key not in self._answers and self._missing_in_a_row[wording] < _MAX_MISSING_IN_A_ROW:
            case = self.cases[i]
            variant = PromptVariant(wording)
            signal = self.detector.query(self.brief, case.text, variant, case.examples if examples else ())
            if signal.log_odds is None:
                self._missing_in_a_row[wording] += 1
                self.failure = signal.degraded
            else:
                self._missing_in_a_row[wording] = 0
            self._answers[key] = signal.log_odds
            if self.progress:
                self.progress("querying the language model", self.calls, self.budget)
        return self._answers.get(key)

    def auc(self, indices: Sequence[int], wording: str, examples: bool = False) -> float:
        """Area under the ROC curve over the answered cases; chance level with too few of a label."""
        answers = {i: self.query(i, wording, examples) for i in indices}
        answered = {i: answer for i, answer in answers.items() if answer is not None}
        auc = roc_auc(list(answered.values()), [self.cases[i].anomalous for i in answered])
        return 0.5 if auc is None else auc


def roc_auc(log_odds: Sequence[float], anomalous: Sequence[bool]) -> float | None:
    """Area under the ROC curve; None with fewer than `MIN_CASES` cases of a label."""
    if min(anomalous.count(True), anomalous.count(False)) < MIN_CASES:
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(anomalous, log_odds))
