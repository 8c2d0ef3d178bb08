"""Fitting to texts: the classifier, and what its signals are for templates of known and of new kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agent.detectors.novelty import novelty_log_odds
from agent.detectors.text_classifier import TextClassifier, Texts
from agent.training.kinds import folds_of_kinds, kinds_of_templates, similarity_to_other_kinds
from agent.training.leave_one_out import Template
from retrieval.encoding.representation import Representation

_KIND_FOLDS = 10


def fit_texts(
    templates: Sequence[Template],
    distances: Sequence[float],
    representation: Representation,
    nearest: int,
    *,
    by_template: bool,
) -> tuple[TextClassifier | None, list[Template]]:
    """The classifier of texts, and the templates with its out-of-fold log-odds.

    Parameters
    ----------
    templates, distances
        See `agent.training.leave_one_out.leave_one_out`.
    representation : Representation
    nearest : int
        How many cases of each label are compared.
    by_template : bool
        Whether the texts are lines of templates, not prose.
    """
    cases = [template.case for template in templates]
    masked = [representation.masked(case) for case in cases]
    written = masked if by_template else [representation.comparable_text(case) for case in cases]
    vectors = np.stack([template.vector for template in templates])
    labels = np.array([template.anomalous for template in templates])
    kinds = kinds_of_templates(vectors)
    folds = folds_of_kinds(kinds, labels, _KIND_FOLDS) if len(np.unique(kinds)) < len(kinds) else None
    texts = Texts.of(vectors, masked, written)
    model, rounds = TextClassifier.fit(texts, labels, nearest, folds, by_template=by_template)
    if model is None:
        return None, list(templates)
    seen = [t.with_signals({"neighbours": float(value)}) for t, value in zip(templates, rounds[0], strict=True)]
    if folds is None:
        return model, seen
    distance = 1 - similarity_to_other_kinds(vectors, kinds)
    novelty = [novelty_log_odds(float(value), distances, len(distances)) for value in distance]
    return model, [
        replace(template, unseen_kind={"neighbours": float(neighbours), "novelty": odd})
        for template, neighbours, odd in zip(seen, rounds[1], novelty, strict=True)
    ]


def rows_of_all_rounds(templates: Sequence[Template]) -> tuple[list[dict[str, float | None]], list[bool]]:
    """Signals and labels of all templates as of known kinds, and once more as of new kinds, where these are known."""
    new = [template for template in templates if template.unseen_kind is not None]
    rows = [template.signals for template in templates] + [{**t.signals, **(t.unseen_kind or {})} for t in new]
    return rows, [template.anomalous for template in (*templates, *new)]
