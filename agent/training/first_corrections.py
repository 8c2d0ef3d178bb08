"""The fit to the first corrections of a source without labels, which begins where a batch of its records left it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agent.core.numerics import expit, map_estimate
from agent.detectors.language import LanguageDetector
from agent.detectors.novelty import undecided_novelty
from agent.pipeline.state import source_model_of
from agent.scoring.calibration import Objective
from agent.scoring.fusion import UNLABELLED_WITH_LLM, UNLABELLED_WITHOUT_LLM, Fusion, SourceModel
from agent.training.leave_one_out import Template
from agent.training.prompt_selection import MIN_CASES
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.representation import Representation

# corrections that halve what an unknown rate adds to the band
_CORRECTIONS = 10
# how much a case counts: people correct what is wrong or unsure, so the share of anomalies among corrections is no rate
_CASE_WEIGHT = 0.1
# half the width of a band that holds every probability, in log-odds
_ALWAYS_UNSURE = 30.0
# cases above which they are more than first corrections
_MOST = 60


def corrected(
    model: SourceModel, row: SourceSnapshot, templates: Sequence[Template], detector: LanguageDetector | None
) -> SourceModel:
    """The model fitted to the first corrections of a source without labels, with the language model as it was before.

    Until there are enough cases of both labels to try the language model on, its weight and the bias of the batch are
    where the fit to the corrections begins. Cases of one label alone say nothing of the rate.

    Parameters
    ----------
    model : SourceModel
        As fitted to the cases.
    row : SourceSnapshot
        The source with the model that it had before.
    templates : sequence of Template
        The cases.
    detector : LanguageDetector or None
        None if there is no language model.
    """
    earlier = SourceModel() if detector is None else source_model_of(row, detector.model)
    labels = [template.anomalous for template in templates]
    rarer = min(map(labels.count, (True, False)))
    if detector is None or earlier.batch_reference is None or len(templates) > _MOST or rarer >= MIN_CASES:
        return model
    # as it was without any correction, so that none counts twice when the source is fitted again
    fusion = Fusion(**earlier.batch_reference["fusion"])
    # what is unlike a handful of cases is nothing new
    fusion = replace(fusion, weights={**fusion.weights, "novelty": 0.0})
    if rarer:
        representation = row.representation or Representation()
        masked = [representation.masked(template.case) for template in templates]
        answers = [detector.query(row.brief, text, earlier.prompt).log_odds for text in masked]
        fusion = _fitted(fusion, answers, labels)
    return replace(
        model,
        with_llm=fusion,
        # detectors that were trained on a handful of cases decide nothing alone
        without_llm=replace(model.without_llm, half_width=_ALWAYS_UNSURE),
        prompt=earlier.prompt,
        model=earlier.model,
        language_auc=None,
        language_range=earlier.language_range,
        language_note=f"the language model is used until there are {MIN_CASES} cases of each label to try it on",
        batch_reference=earlier.batch_reference,
    )


def _fitted(fusion: Fusion, answers: Sequence[float | None], anomalous: Sequence[bool]) -> Fusion:
    """The fusion of the batch with the language model's weight and the bias fitted to cases, and a narrower band."""
    answered = [(answer, label) for answer, label in zip(answers, anomalous, strict=True) if answer is not None]
    if not answered:
        return fusion
    x = np.array([[answer, 1.0] for answer, _ in answered])
    y = np.array([label for _, label in answered], dtype=float)
    start = np.array([fusion.weights["language"], fusion.bias])
    theta = map_estimate(x, y, np.full(len(y), _CASE_WEIGHT), start)
    # each case says something of the rate, which was all that widened the band
    narrowest = UNLABELLED_WITH_LLM.half_width
    half_width = narrowest + (fusion.half_width - narrowest) / (1 + len(y) / _CORRECTIONS)
    weights = {**fusion.weights, "language": float(theta[0])}
    return replace(fusion, weights=weights, bias=float(theta[1]), half_width=half_width)


def with_one_label(model: SourceModel, templates: Sequence[Template], objective: Objective, risk: float) -> SourceModel:
    """The model where texts have one label: what is far from normal cases is anomalous."""
    if len({template.anomalous for template in templates}) == 2:
        return model
    without_llm, with_llm = UNLABELLED_WITHOUT_LLM, UNLABELLED_WITH_LLM
    if templates and templates[0].anomalous:
        without_llm, with_llm = (
            replace(fusion, weights={**fusion.weights, "novelty": 0.0}) for fusion in (without_llm, with_llm)
        )
        without_llm = replace(without_llm, threshold=without_llm.bias)
    if not objective.f1:
        without_llm, with_llm = (replace(fusion, threshold=objective.least_cost) for fusion in (without_llm, with_llm))
    highest = without_llm.log_odds({"novelty": undecided_novelty(len(templates), risk)})
    without_llm = without_llm.widened_to(expit(highest))
    return replace(model, without_llm=without_llm, with_llm=with_llm)
