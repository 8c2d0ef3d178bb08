"""Numbers that tell the labels apart where cases of both labels share a template: status, exit and event codes.

Masking hides all numbers. A place whose few values predict the labels of held-out cases is not masked any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Bools, Floats
from retrieval.casebook import Casebook
from retrieval.encoding.representation import Representation
from retrieval.text.kept_numbers import KeptNumbers, KeptPlace, placed_numbers
from retrieval.text.masking import mask

# most places of a source, and values of a place; cases that a value must have on average
_MOST_PLACES, _MOST_VALUES, _CASES_PER_VALUE = 3, 64, 3
# cases of each label, and how many are read
_FEWEST, _MOST_CASES, _SEED = 4, 20_000, 20_26
_FOLDS = 5
# least share of the log-loss that a place must save, and the chance that a place without influence is taken
_LEAST_GAIN, _CHANCE = 0.2, 0.001
Codes = NDArray[np.int64]


def keep_telling_numbers(casebook: Casebook, name: str) -> None:
    """Let masking keep the numbers that tell the labels of the source's cases apart, and no others."""
    source = casebook.source(name)
    representation = source.representation if source else None
    if source is None or representation is None or representation.field_encoder is not None:
        return
    mixed = casebook.mixed_keys(name)
    if not mixed and not representation.kept:
        return
    unmasked = Representation(representation.prose)
    # where numbers are kept already, templates without them may be mixed that are not now
    cases = casebook.cases(name, None if representation.kept else mixed)
    texts = [unmasked.comparable_text(case) for case in cases]
    casebook.keep_numbers(name, find_telling_numbers(texts, [case.label == "anomalous" for case in cases]))


def find_telling_numbers(texts: Sequence[str], anomalous: Sequence[bool]) -> KeptNumbers:
    """The places whose numbers predict the labels of n texts better than their templates, and the numbers there.

    Parameters
    ----------
    texts : n strings
        In the order in which they were learned: what is held out is consecutive, so that a number which only occurred
        for a while predicts nothing.
    anomalous : n booleans
    """
    labels, templates = np.asarray(anomalous, dtype=bool), _codes([mask(text) for text in texts])
    usable = np.flatnonzero(_is_mixed(templates, labels))
    if len(usable) > _MOST_CASES:
        usable = np.sort(np.random.default_rng(_SEED).choice(usable, _MOST_CASES, replace=False))
    labels, templates = labels[usable], templates[usable]
    values = _values_by_place([texts[i] for i in usable.tolist()])
    chosen: list[KeptPlace] = []
    while len(chosen) < _MOST_PLACES and min(labels.sum(), (~labels).sum()) >= _FEWEST:
        place = _most_telling(values, templates, labels)
        if place is None:
            break
        names, column = values.pop(place)
        chosen.append(KeptPlace(place, frozenset(names[code] for code in np.unique(column) if code >= 0)))
        templates = _paired(templates, column)
        usable = np.flatnonzero(_is_mixed(templates, labels))
        labels, templates = labels[usable], templates[usable]
        values = {place: (names, column[usable]) for place, (names, column) in values.items()}
    return tuple(chosen)


def _codes(names: Sequence[str]) -> Codes:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def _paired(first: Codes, second: Codes) -> Codes:
    """Codes of the pairs."""
    return np.unique(np.stack([first, second]), axis=1, return_inverse=True)[1].ravel()


def _is_mixed(templates: Codes, labels: Bools) -> Bools:
    """Whether each text's template has texts of both labels."""
    counts, positives = np.bincount(templates), np.bincount(templates, weights=labels)
    return ((positives > 0) & (positives < counts))[templates]


def _values_by_place(texts: Sequence[str]) -> dict[str, tuple[list[str], Codes]]:
    """For each place the numbers there, and of each text the index of its number, -1 if it has none."""
    found: dict[str, tuple[dict[str, int], Codes]] = {}
    for i, text in enumerate(texts):
        for place, value, _, _ in placed_numbers(text):
            if place not in found:
                found[place] = {}, np.full(len(texts), -1, dtype=np.int64)
            names, column = found[place]
            if column[i] < 0:
                column[i] = names.setdefault(value, len(names))
    return {place: (list(names), column) for place, (names, column) in found.items()}


def _most_telling(values: dict[str, tuple[list[str], Codes]], templates: Codes, labels: Bools) -> str | None:
    """The place that saves most of the log-loss of texts that were held out; None if chance may explain it."""
    folds = np.zeros(len(labels), dtype=np.int64)
    for label in (False, True):
        of_label = np.flatnonzero(labels == label)
        folds[of_label] = np.arange(len(of_label)) * _FOLDS // len(of_label)
    candidates = {}
    for place, (_, column) in values.items():
        present = np.flatnonzero(column >= 0)
        distinct = len(np.unique(column[present]))
        if 2 <= distinct <= min(_MOST_VALUES, len(present) / _CASES_PER_VALUE):
            candidates[place] = present, column[present]
    z_needed = NormalDist().inv_cdf(1 - _CHANCE / max(len(candidates), 1))
    best, best_gain = None, 0.0
    for place, (present, column) in sorted(candidates.items()):
        y = labels[present].astype(float)
        without, with_place = _held_out_losses(y, templates[present], column, folds[present])
        gain = without - with_place
        certain = gain.mean() > z_needed * gain.std() / np.sqrt(len(gain))
        if certain and gain.mean() > _LEAST_GAIN * without.mean() and gain.sum() > best_gain:
            best, best_gain = place, float(gain.sum())
    return best


def _held_out_losses(y: Floats, templates: Codes, values: Codes, folds: Codes) -> tuple[Floats, Floats]:
    """Log-loss of each of n labels, shape (n,), predicted by the template alone, and with the value."""
    _, templates = np.unique(templates, return_inverse=True)
    pairs = _paired(templates, values)
    without, with_value = np.empty(len(y)), np.empty(len(y))
    for fold in np.unique(folds):
        rest, held_out = folds != fold, folds == fold
        everywhere = np.full(len(y), (y[rest].sum() + 0.5) / (rest.sum() + 1))
        by_template = _rates(y, templates, rest, everywhere)
        by_value = _rates(y, values, rest, by_template)
        without[held_out] = by_template[held_out]
        with_value[held_out] = _rates(y, pairs, rest, by_value)[held_out]

    def loss(p: Floats) -> Floats:
        return -np.log(np.where(y > 0, p, 1 - p))

    return loss(without), loss(with_value)


def _rates(y: Floats, groups: Codes, rest: Bools, prior: Floats) -> Floats:
    """The share of 1 in each text's group among the ``rest``; the ``prior`` counts as one more text."""
    counts = np.bincount(groups[rest], minlength=groups.max() + 1)
    positives = np.bincount(groups[rest], weights=y[rest], minlength=groups.max() + 1)
    return (positives[groups] + prior) / (counts[groups] + 1)
