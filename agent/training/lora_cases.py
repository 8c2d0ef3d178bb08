"""The cases that an adapter is trained on, and those of other kinds that say whether it helps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.core.errors import UsageError
from agent.core.terminal import plural
from agent.pipeline.context import AppContext
from agent.scoring.fusion import SourceModel
from agent.training.kinds import folds_of_kinds, kinds_of_templates, stratified_folds
from agent.training.language_trial import prompt_trial
from agent.training.leave_one_out import Template, leave_one_out
from agent.training.prompt_selection import MIN_CASES, PromptTrial
from retrieval.arrays import Bools, Ints

# a third of the cases is kept from training
_FOLDS, _SEED = 3, 20_26


@dataclass(frozen=True)
class LoraCases:
    """One case of each of n templates.

    Attributes
    ----------
    trials : sequence of PromptTrial
        With the nearest cases as a new record of a new kind would retrieve them.
    keys : sequence of str
    anomalous, held_out : shape (n,)
        The label, and whether it is kept from training.
    kinds : shape (n,)
        The number of the template's kind.
    by_kind : bool
        Whether no kind is in both parts.
    """

    trials: Sequence[PromptTrial]
    keys: Sequence[str]
    anomalous: Bools
    held_out: Bools
    kinds: Ints
    by_kind: bool

    @property
    def held_out_keys(self) -> frozenset[str]:
        """Keys of the cases that are not trained on."""
        return frozenset(key for key, out in zip(self.keys, self.held_out, strict=True) if out)


def lora_cases(context: AppContext, source: str, most: int) -> LoraCases:
    """A source's cases, at most so many, divided for training.

    Raises
    ------
    UsageError
        The language model is never queried about the source's records, or there are too few cases.
    """
    row = context.source(source)
    model = SourceModel.of(row.source_model, row.counts)
    representation = row.representation
    if representation is not None and representation.field_encoder is not None and model.normal_field_encoder:
        raise UsageError(
            f"the language model is never queried about records of {source}: they are judged by their fields",
            f"`precedent tune classifier --source {source}` tunes a classifier on them",
        )
    by_key = {key: case for key, (case, _) in context.casebook.by_template(source).items()}
    templates, _ = leave_one_out(context.casebook, row, by_key, context.settings.precedents)
    templates = _balanced(templates, most)
    anomalous = np.array([template.anomalous for template in templates], dtype=bool)
    if min(anomalous.sum(), (~anomalous).sum()) < _FOLDS * MIN_CASES:
        has = f"{plural(int((~anomalous).sum()), 'normal template')} and {int(anomalous.sum())} anomalous"
        raise UsageError(
            f"an adapter needs {_FOLDS * MIN_CASES} different cases of each label, a third of them to find out whether "
            f"it helps: {source} has {has}"
        )
    kinds = kinds_of_templates(np.stack([template.vector for template in templates]))
    folds = folds_of_kinds(kinds, anomalous, _FOLDS)
    held_out = None if folds is None else _third(folds, anomalous)
    if held_out is not None and len(np.unique(kinds)) < len(kinds):
        # as `fit_texts` marks templates whose kind is known: cases of the same kind are no examples
        templates = [replace(template, unseen_kind={}) for template in templates]
    by_kind = held_out is not None
    if held_out is None:
        held_out = stratified_folds(anomalous, _FOLDS, _SEED) == 0
    trials = [prompt_trial(row, by_key, template) for template in templates]
    return LoraCases(trials, [template.case.key for template in templates], anomalous, held_out, kinds, by_kind)


def _balanced(templates: Sequence[Template], most: int) -> list[Template]:
    """At most so many templates, half of each label where there are as many; the same ones every time."""
    ranked = sorted(templates, key=lambda template: hashlib.sha256(template.case.key.encode()).digest())
    by_label = [[template for template in ranked if template.anomalous is label] for label in (True, False)]
    rarer = min(map(len, by_label))
    each = max(most // 2, most - rarer)
    return [template for of_label in by_label for template in of_label[:each]][:most]


def _third(folds: Ints, anomalous: Bools) -> Bools | None:
    """The fold whose size is nearest to its share, with enough cases of each label in it and outside; None if none."""
    parts = [folds == fold for fold in np.unique(folds)]
    counts = [[int((part & label).sum()) for label in (anomalous, ~anomalous)] for part in parts]
    totals = int(anomalous.sum()), int((~anomalous).sum())
    possible = [
        (max(abs(count / total - 1 / _FOLDS) for count, total in zip(of_part, totals, strict=True)), number)
        for number, of_part in enumerate(counts)
        if all(MIN_CASES <= count <= total - MIN_CASES for count, total in zip(of_part, totals, strict=True))
    ]
    return parts[min(possible)[1]] if possible else None
