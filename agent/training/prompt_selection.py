"""How the language model of a source is asked: the wording, and whether with examples, that tell its cases apart best.

Small models answer one question very differently by how it is put, and not in the same way for every source: each
wording is tried on a few cases, the best one is heard on more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.core.prompts import PromptVariant
from agent.detectors.language import WORDINGS, LanguageDetector
from llm.errors import ModelFailure

# cases of each label below which an AUC says nothing, and what it must gain to turn away from the usual way
FEWEST, _GAIN = 8, 0.05
# the share of the calls that learn whether examples help
_FOR_EXAMPLES = 1 / 8
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PromptTrial:
    """A case to ask about; ``examples`` are what its near precedents would give it."""

    text: str
    anomalous: bool
    examples: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class PromptSelection:
    """The way that was chosen, and the log-odds that it gave, by the index of the case."""

    way: PromptVariant
    words: Mapping[int, float]


def select_prompt(
    witness: LanguageDetector, brief: str, cases: Sequence[PromptTrial], budget: int, progress: Progress | None = None
) -> PromptSelection:
    """Try the wordings on as many of the first cases of each label as ``budget`` calls allow.

    Raises:
        ModelFailure, EngineBusy: the model could not be heard.
    """
    trial = _Trial(witness, brief, cases, budget, progress)
    by_label = [[i for i, case in enumerate(cases) if case.anomalous is label] for label in (True, False)]
    wording, each = WORDINGS[0], budget // (4 * len(WORDINGS))
    if each >= FEWEST and min(map(len, by_label)) >= FEWEST:
        tried = [i for mine in by_label for i in mine[:each]]
        aucs = {one: trial.auc(tried, one) for one in WORDINGS}
        best = max(WORDINGS, key=lambda one: aucs[one])
        wording = best if aucs[best] >= aucs[wording] + _GAIN else wording
    else:
        each = 0
    for_examples = int(budget * _FOR_EXAMPLES)
    more = each + (budget - trial.calls - for_examples) // 2
    chosen = [i for mine in by_label for i in mine[:more]]
    words = {i: trial.query(i, wording) for i in chosen}
    near = [[i for i in mine[:more] if cases[i].examples][: for_examples // 2] for mine in by_label]
    helped = False
    if min(map(len, near)) >= FEWEST:
        both = [i for mine in near for i in mine]
        helped = trial.auc(both, wording, examples=True) >= trial.auc(both, wording) + _GAIN
    reference = witness.content_free_log_odds(brief, PromptVariant(wording))
    return PromptSelection(PromptVariant(wording, reference, helped), words)


@dataclass
class _Trial:
    """Asks about cases, none twice in the same way; ``calls`` counts."""

    witness: LanguageDetector
    brief: str
    cases: Sequence[PromptTrial]
    budget: int
    progress: Progress | None
    _heard: dict[tuple[int, str, bool], float] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        return len(self._heard)

    def query(self, i: int, wording: str, examples: bool = False) -> float:
        asked = (i, wording, examples)
        if asked not in self._heard:
            case = self.cases[i]
            signal = self.witness.query(
                self.brief, case.text, PromptVariant(wording), case.examples if examples else ()
            )
            if signal.log_odds is None:
                raise ModelFailure(signal.degraded)
            self._heard[asked] = signal.log_odds
            if self.progress:
                self.progress("hearing the language model", self.calls, self.budget)
        return self._heard[asked]

    def auc(self, which: Sequence[int], wording: str, examples: bool = False) -> float:
        from sklearn.metrics import roc_auc_score

        words = [self.query(i, wording, examples) for i in which]
        return float(roc_auc_score([self.cases[i].anomalous for i in which], words))
