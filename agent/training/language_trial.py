"""The trial of a language model on a source's cases: whether it is used, with which prompt, and with what weight.

Where detectors were trained, the model must earn its weight: verdicts on held-out kinds of records have a smaller
log-loss with it than without it, by more than chance, and rank no worse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.core.numerics import map_estimate
from agent.core.progress import Progress
from agent.detectors.language import LanguageDetector, NearCase
from agent.detectors.lora import SourceAdapter
from agent.detectors.novelty import SAME_KIND
from agent.scoring.calibration import Objective, fit, reaching_bias
from agent.scoring.fusion import DEFAULT_WITH_LLM, Fusion, SourceModel
from agent.training.kinds import kinds_of_templates
from agent.training.leave_one_out import CaseKey, Template
from agent.training.prompt_selection import (
    MIN_CASES,
    PromptSelection,
    PromptTrial,
    roc_auc,
    select_prompt,
)
from llm.errors import EngineBusy, ModelFailure
from retrieval.arrays import Bools, Floats, Ints
from retrieval.casebook import SourceSnapshot, StoredCase
from retrieval.encoding.representation import Representation

_SEED, _FOLDS = 20_26, 5
# quantiles of the answers between which nearly all lie
_RANGE = (0.05, 0.95)
# standard errors by which the weight must exceed 0: that of one in twenty models that guess does (docs/decisions/0005)
_STANDARD_ERRORS = 1.645
# a stronger prior leaves log-odds of the other detectors too small, which a model that repeats them could mend
_WEAK_PRIOR = 20.0
_OTHERS = "others"


@dataclass(frozen=True)
class Evidence:
    """What the language model adds to the other detectors, on held-out kinds of cases.

    Attributes
    ----------
    auc_without, auc_with : float
        Area under the ROC curve of the fused log-odds, on kinds that they were not fitted to.
    gain : float
        Decrease of their log-loss, summed over the cases.
    least_weight : float
        Lower confidence bound of the model's weight beside the other detectors.
    """

    auc_without: float
    auc_with: float
    gain: float
    least_weight: float

    @property
    def helps(self) -> bool:
        """Whether verdicts are better with the model than without it."""
        return self.least_weight > 0 and self.gain > 0 and self.auc_with >= self.auc_without

    def __str__(self) -> str:
        aucs = f"AUC {self.auc_without:.3f} → {self.auc_with:.3f}"
        return f"the model helps here: {aucs}" if self.helps else f"the model does not help here ({aucs}): not used"


@dataclass(frozen=True)
class TunedLanguage:
    """The adapter of a source's language model, and why it cannot be used now; None for either if there is none."""

    adapter: SourceAdapter | None = None
    unavailable: str | None = None


NOT_TUNED = TunedLanguage()


@dataclass(frozen=True)
class LanguageTrial:
    """The trial of a language model on one source.

    Parameters
    ----------
    row : SourceSnapshot
    by_key : mapping
        A case of each template, by key and label.
    risk : float
    objective : Objective
        See `agent.scoring.calibration.fit`.
    trained : bool
        Whether detectors were trained on cases of both labels.
    tuned : TunedLanguage
        The source's adapter of the language model.
    """

    row: SourceSnapshot
    by_key: Mapping[CaseKey, StoredCase]
    risk: float
    objective: Objective
    trained: bool
    tuned: TunedLanguage = NOT_TUNED

    def run(
        self,
        model: SourceModel,
        templates: Sequence[Template],
        detector: LanguageDetector | None,
        budget: int,
        progress: Progress | None,
    ) -> SourceModel:
        """The source model with the language model tried on a balanced sample of ``templates``.

        Parameters
        ----------
        model : SourceModel
            With the other detectors fitted.
        templates : sequence of Template
            Empty if the pipeline never queries the language model for records of this source.
        detector : LanguageDetector or None
            None if there is no language model.
        budget : int
            The most queries.
        progress : callable, optional
        """
        if detector is None:
            return self._unused(model, self.tuned.unavailable)
        if not budget:
            return self._unused(model, "the language model was not tried (no calls are allowed)")
        if not templates:
            return self._unused(replace(model, model=detector.model.name), None)
        only, adapter = None, self.tuned.adapter
        if adapter is not None and detector.model.adapter_sha256 == adapter.sha256:
            # Answers about cases that the adapter was trained on, or about others of their kinds, say nothing of new
            # records: only those of held-out kinds weigh it.
            only = replace(adapter.prompt, reference=None)
            templates = [template for template in templates if template.case.key in adapter.held_out]
        ranked = sorted(templates, key=lambda template: hashlib.sha256(template.case.key.encode()).digest())
        by_label = [[template for template in ranked if template.anomalous is label] for label in (True, False)]
        chosen = [template for of_label in by_label for template in of_label[:budget]]
        fused = [model.without_llm.log_odds(_of_new_kind(template)) if self.trained else 0.0 for template in chosen]
        trials = [prompt_trial(self.row, self.by_key, *each) for each in zip(chosen, fused, strict=True)]
        try:
            selection = select_prompt(detector, self.row.brief, trials, budget, progress, only)
        except (ModelFailure, EngineBusy) as error:
            return self._unused(model, f"the language model could not be tried ({error})")
        model = self._weighed(replace(model, model=detector.model.name), templates, chosen, selection)
        if adapter is None:
            return model
        with_adapter = "with the source's adapter" if only else "without the source's adapter, which it does not have"
        return replace(model, language_note=f"{model.language_note} ({detector.model.name}, {with_adapter})")

    def _unused(self, model: SourceModel, why: str | None) -> SourceModel:
        """The source model that queries no language model where detectors were trained; else it has its default weight.

        Beside trained detectors the default weight is a guess: on SMS it made verdicts worse.
        """
        if not self.trained:
            return replace(model, language_note=why)
        return replace(_without_weight(model), language_note=f"{why}: not used" if why else None)

    def _weighed(
        self,
        model: SourceModel,
        templates: Sequence[Template],
        chosen: Sequence[Template],
        selection: PromptSelection,
    ) -> SourceModel:
        """The source model with the answers weighed."""
        tried = [chosen[i] for i in selection.log_odds]
        answers = list(selection.log_odds.values())
        labels = [template.anomalous for template in tried]
        counts = {label: labels.count(label) for label in (False, True)}
        note = f"the language model was tried on {counts[False]} normal and {counts[True]} anomalous cases"
        if selection.missing:
            note += f"; {selection.missing} got no answer"
        low, high = np.quantile(answers, _RANGE)
        model = replace(
            model,
            prompt=selection.variant,
            language_auc=roc_auc(answers, labels),
            language_range=(float(low), float(high)),
            language_note=note,
        )
        stands_for = {
            label: sum(template.anomalous is label for template in templates) / count
            for label, count in counts.items()
            if count
        }
        weights = [stands_for[label] for label in labels]
        if not self.trained:
            rows = [{**template.signals, "language": answer} for template, answer in zip(tried, answers, strict=True)]
            with_llm = fit(DEFAULT_WITH_LLM, rows, labels, weights, self.risk, self.objective)
            # with cases of one label the weights stay
            return replace(model, with_llm=with_llm) if all(counts.values()) else model
        if min(counts.values()) < MIN_CASES:
            return self._unused(model, f"{note}, fewer than {MIN_CASES} of a label")
        rounds = [[model.without_llm.log_odds(template.signals) for template in tried]]
        if any(template.unseen_kind is not None for template in tried):
            rounds.append([model.without_llm.log_odds(_of_new_kind(template)) for template in tried])
        others = np.array(rounds[-1])
        kinds = kinds_of_templates(np.stack([template.vector for template in tried]))
        evidence = compare(others, np.array(answers), np.array(labels), np.array(weights), kinds)
        model = replace(model, language_note=f"{note}; {evidence}")
        if not evidence.helps:
            return _without_weight(model)
        rows = [
            {_OTHERS: z, "language": answer} for of_round in rounds for z, answer in zip(of_round, answers, strict=True)
        ]
        default = Fusion({_OTHERS: 1.0, "language": DEFAULT_WITH_LLM.weights["language"]}, bias=0.0)
        fusion = fit(default, rows, labels * len(rounds), weights * len(rounds), self.risk, self.objective)
        return replace(model, with_llm=reaching_bias(_combined(model.without_llm, fusion), self.objective))


def prompt_trial(
    row: SourceSnapshot, by_key: Mapping[CaseKey, StoredCase], template: Template, others: float = 0.0
) -> PromptTrial:
    """The case to query about, with its nearest cases as a new record of a new kind would retrieve them."""
    representation = row.representation or Representation()
    most_similar = 1.0 if template.unseen_kind is None else SAME_KIND
    cases = [(value, by_key.get((key, label))) for key, label, value in template.nearest]
    near = [NearCase(value, case.label, representation.masked(case)) for value, case in cases if case]
    near = [case for case in near if case.similarity <= most_similar]
    return PromptTrial(representation.masked(template.case), template.anomalous, near, others)


def _without_weight(model: SourceModel) -> SourceModel:
    """The source model with which the language model is never queried."""
    return replace(model, with_llm=replace(model.without_llm, weights={**model.without_llm.weights, "language": 0.0}))


def _of_new_kind(template: Template) -> Mapping[str, float | None]:
    """The template's signals if no case were of its kind, where that is known."""
    return {**template.signals, **(template.unseen_kind or {})}


def _combined(without: Fusion, fusion: Fusion) -> Fusion:
    """One fusion of ``without``, a fusion of the other detectors, and ``fusion`` of its log-odds with the model's."""
    share = fusion.weights[_OTHERS]
    weights = {name: share * weight for name, weight in without.weights.items()}
    weights["language"] = fusion.weights["language"]
    return replace(fusion, weights=weights, bias=fusion.bias + share * without.bias)


def compare(others: Floats, answers: Floats, anomalous: Bools, weights: Floats, kinds: Ints) -> Evidence:
    """Compare verdicts with the language model and without it, each on kinds that its weights were not fitted to.

    The confidence bound of the weight takes all cases of a kind as one observation (sandwich estimator for clusters;
    Liang & Zeger 1986).

    Parameters
    ----------
    others : shape (n,)
        Fused log-odds of the other detectors.
    answers : shape (n,)
        Log-odds of the language model.
    anomalous : shape (n,)
    weights : shape (n,)
        How many cases each counts as.
    kinds : shape (n,)
        Numbers of the cases' kinds.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold

    if len(set(kinds.tolist())) < 2:
        kinds = np.arange(len(kinds))
    y, weights = anomalous.astype(float), weights * (len(weights) / weights.sum())
    ones = np.ones_like(others)
    columns = {False: np.stack([others, ones], axis=1), True: np.stack([others, answers, ones], axis=1)}
    starts = {False: np.array([1.0, 0.0]), True: np.array([1.0, 0.0, 0.0])}
    fused = {with_llm: np.array(others) for with_llm in columns}
    folds = StratifiedGroupKFold(min(_FOLDS, len(set(kinds.tolist()))), shuffle=True, random_state=_SEED)
    for rest, held_out in folds.split(columns[True], anomalous, kinds):
        for with_llm, x in columns.items():
            theta = map_estimate(x[rest], y[rest], _WEAK_PRIOR * weights[rest], starts[with_llm])
            fused[with_llm][held_out] = x[held_out] @ theta
    auc = {with_llm: float(roc_auc_score(anomalous, z)) for with_llm, z in fused.items()}
    losses = {with_llm: weights * (np.logaddexp(0, z) - y * z) for with_llm, z in fused.items()}
    gain = float((losses[False] - losses[True]).sum())
    return Evidence(auc[False], auc[True], gain, _least_weight(columns[True], y, weights, kinds, starts[True]))


def _least_weight(x: Floats, y: Floats, weights: Floats, kinds: Ints, start: Floats) -> float:
    """Lower confidence bound of the weight in the second column of ``x``, shape (n, 3)."""
    from scipy.special import expit

    theta = map_estimate(x, y, _WEAK_PRIOR * weights, start)
    p = expit(x @ theta)
    # the prior is left out of the curvature: it is weak
    curvature = np.linalg.pinv((x * (weights * p * (1 - p))[:, None]).T @ x)
    scores = np.zeros((kinds.max() + 1, x.shape[1]))
    np.add.at(scores, kinds, (weights * (p - y))[:, None] * x)
    variance = curvature @ (scores.T @ scores) @ curvature
    return float(theta[1] - _STANDARD_ERRORS * np.sqrt(variance[1, 1]))
