"""A source's cases for a model for `ollama run`: those of its prompt, and those that the prompt is tried on."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.training.kinds import folds_of_kinds, kinds_of_templates
from agent.training.ollama_forms import (
    Example,
    Examples,
    deciding_words,
    medoids,
    record_text,
    shown_text,
    with_general,
    word_counts,
)
from retrieval.casebook import Casebook, SourceSnapshot, StoredCase
from retrieval.encoding.representation import Representation
from retrieval.types import LABELS

# the most cases of each label in a prompt, and the fewest that say something
MOST_SHOWN, MIN_CASES = {"normal": 12, "anomalous": 3}, 8
_FOLDS, _SEED = 3, 20_26
# examples of each label beside an adapter, and how many cases beyond the fewest there must be for each of the source
_EXAMPLES, _EXAMPLE_SHARE = 3, 6


@dataclass(frozen=True)
class HeldOut:
    """A case that is not in the prompt; ``new_kind``: nor is another of its kind."""

    text: str
    anomalous: bool
    new_kind: bool


@dataclass(frozen=True)
class Round:
    """Cases for a prompt, see `few_shot_prompt`, and others to try it on."""

    examples: Mapping[bool, Examples]
    held_out: Sequence[HeldOut]


@dataclass(frozen=True)
class SourceCases:
    """What a source's prompt is made of and tried on.

    Attributes
    ----------
    examples : mapping
        Cases for the prompt, see `few_shot_prompt`.
    counts : mapping
        How many templates of each label the source has.
    choice : sequence of Round
        To choose a form with; empty if there are too few cases.
    confirmation : sequence of Round
        To measure the chosen form with: other cases, except where there are few.
    """

    examples: Mapping[bool, Examples]
    counts: Mapping[str, int]
    choice: Sequence[Round]
    confirmation: Sequence[Round]


@dataclass(frozen=True)
class TrialCases:
    """Cases to fit an adapter to and to measure it with, one of each template.

    Attributes
    ----------
    texts : sequence of str
        Of n cases, as a person gives them to `ollama run`.
    anomalous : shape (n,)
    kinds : shape (n,)
    counts : mapping
        How many templates of each label the source has.
    examples : mapping
        Other cases, for the prompt: general ones, and the more of the source the more there are.
    """

    examples: Examples
    texts: Sequence[str]
    anomalous: NDArray[np.bool_]
    kinds: NDArray[np.int64]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class _Templates:
    """One case of each template of a source, with vectors, shape (n, dimensions), and weights, shape (n,)."""

    cases: Sequence[StoredCase]
    vectors: NDArray[np.float32]
    weights: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    kinds: NDArray[np.int64]
    representation: Representation

    def shown(self, places: Sequence[int]) -> dict[bool, dict[str, list[int]]]:
        """Of the templates at ``places`` those for a prompt: representative (False) and contrasting ones (True)."""
        of_label = {label: np.array([i for i in places if self.cases[i].label == label], dtype=int) for label in LABELS}
        representative = {
            label: [int(indices[i]) for i in medoids(self.vectors[indices], self.weights[indices], MOST_SHOWN[label])]
            for label, indices in of_label.items()
        }
        # in turn, for each anomalous template the most similar normal one, and a representative one
        normal, mixed = of_label["normal"].tolist(), list[int]()
        for turn, likely in enumerate(representative["normal"]):
            left = [j for j in normal if j not in mixed]
            if left and representative["anomalous"]:
                anomalous = self.vectors[representative["anomalous"][turn % len(representative["anomalous"])]]
                mixed.append(left[int(np.argmax(self.vectors[left] @ anomalous))])
            if likely not in mixed:
                mixed.append(likely)
        return {False: representative, True: {**representative, "normal": mixed[: MOST_SHOWN["normal"]]}}

    def examples(self, shown: Mapping[bool, Mapping[str, Sequence[int]]]) -> dict[bool, Examples]:
        """The templates at the places of `shown`, as a prompt shows them."""
        counts = {
            label: word_counts([shown_text(case, self.representation) for case in self.cases if case.label == label])
            for label in LABELS
        }
        others = dict(zip(LABELS, LABELS[::-1], strict=True))

        def example(i: int, label: str) -> Example:
            text = shown_text(self.cases[i], self.representation)
            return Example(text, label, deciding_words(text, counts[label], counts[others[label]]))

        return {
            contrasting: with_general({label: [example(i, label) for i in places[label]] for label in LABELS})
            for contrasting, places in shown.items()
        }

    def held_out(self, places: Sequence[int], in_prompt: set[int]) -> list[HeldOut]:
        """The templates at ``places``, as records to try a prompt on which shows those of ``in_prompt``."""
        known = {self.kinds[i] for i in in_prompt}
        return [
            HeldOut(record_text(self.cases[i]), bool(self.anomalous[i]), self.kinds[i] not in known) for i in places
        ]

    def counts(self, places: Sequence[int]) -> dict[str, int]:
        """How many of the templates at ``places`` have each label."""
        anomalous = int(self.anomalous[list(places)].sum())
        return {"normal": len(places) - anomalous, "anomalous": anomalous}


def source_cases(casebook: Casebook, row: SourceSnapshot, each: int) -> SourceCases:
    """The cases of a source, of which up to ``each`` of a label are tried for the choice, and as many for its figures.

    With enough of them, those that are tried are all others than those of the prompt. With fewer, prompts of one part
    of the cases are tried on the rest, by turns.
    """
    templates = _templates(casebook, row)
    everything = range(len(templates.cases))
    shown = templates.shown(everything)
    examples, counts = templates.examples(shown), templates.counts(everything)
    if each < MIN_CASES:
        return SourceCases(examples, counts, (), ())
    in_prompt = _places(shown)
    rest = [i for i in everything if i not in in_prompt]
    if min(templates.counts(rest).values()) >= 2 * MIN_CASES:
        halves = _halves(templates, rest, each)
        rounds = [[Round(examples, templates.held_out(half, in_prompt))] for half in halves]
        return SourceCases(examples, counts, *rounds)
    by_turns = _by_turns(templates, each) if min(counts.values()) >= MIN_CASES else []
    return SourceCases(examples, counts, by_turns, by_turns)


def trial_cases(casebook: Casebook, row: SourceSnapshot, most: int) -> TrialCases:
    """Up to ``most`` cases of a source, half of each label as far as there are enough, drawn at random."""
    templates = _templates(casebook, row)
    everything = range(len(templates.cases))
    counts, shown = templates.counts(everything), templates.shown(everything)[False]
    few = min(_EXAMPLES, max(0, min(counts.values()) - MIN_CASES) // _EXAMPLE_SHARE)
    shown = {label: places[:few] for label, places in shown.items()}
    from_source, general = templates.examples({False: shown})[False], with_general({})
    examples = {label: [*general[label][: _EXAMPLES - few], *(from_source[label] if few else ())] for label in LABELS}
    in_prompt = {i for places in shown.values() for i in places}
    places = [i for i in random.Random(_SEED).sample(everything, len(everything)) if i not in in_prompt]
    of_label = {label: [i for i in places if templates.anomalous[i] == label] for label in (True, False)}
    share = {label: max(most // 2, most - len(of_label[not label])) for label in of_label}
    chosen = sorted(i for label, of in of_label.items() for i in of[: share[label]])
    return TrialCases(
        examples,
        [record_text(templates.cases[i]) for i in chosen],
        templates.anomalous[chosen],
        templates.kinds[chosen],
        counts,
    )


def _places(shown: Mapping[bool, Mapping[str, Sequence[int]]]) -> set[int]:
    return {i for of_label in shown.values() for places in of_label.values() for i in places}


def _templates(casebook: Casebook, row: SourceSnapshot) -> _Templates:
    by_template = casebook.by_template(row.name)
    cases, vectors, numbers = list[StoredCase](), list[NDArray[np.float32]](), list[int]()
    for label in LABELS:
        keys, of_label = casebook.matrix(row, label)
        for key, vector in zip(keys, of_label, strict=True):
            case, number = by_template[key, label]
            cases.append(case)
            vectors.append(vector)
            numbers.append(number)
    stacked = np.stack(vectors) if vectors else np.zeros((0, 1), dtype=np.float32)
    anomalous = np.array([case.label == "anomalous" for case in cases], dtype=np.bool_)
    representation = row.representation or Representation()
    return _Templates(
        cases, stacked, np.sqrt(np.array(numbers, float)), anomalous, kinds_of_templates(stacked), representation
    )


def _halves(templates: _Templates, places: Sequence[int], each: int) -> list[list[int]]:
    """Up to ``each`` places of each label for either half; a kind is in one of them."""
    members: dict[int, list[int]] = {}
    for i in places:
        members.setdefault(int(templates.kinds[i]), []).append(i)
    kinds = random.Random(_SEED).sample(sorted(members), len(members))
    halves: tuple[list[int], list[int]] = ([], [])
    # those with anomalous templates first: there are fewer of them
    for kind in sorted(kinds, key=lambda kind: not templates.anomalous[members[kind]].any()):
        sizes = [templates.counts(half) for half in halves]
        label = LABELS[int(templates.anomalous[members[kind]].any())]
        halves[int(sizes[1][label] < sizes[0][label])].extend(members[kind])
    return [_sample(templates, half, each) for half in halves]


def _sample(templates: _Templates, places: Sequence[int], most: int) -> list[int]:
    """Up to ``most`` of the places of each label, of as many kinds as possible, each label in turn."""
    by_label = []
    for label in (True, False):
        by_kind: dict[int, list[int]] = {}
        for i in random.Random(_SEED).sample(list(places), len(places)):
            if templates.anomalous[i] == label:
                by_kind.setdefault(int(templates.kinds[i]), []).append(i)
        spread = [kind[turn : turn + 1] for turn in range(most) for kind in by_kind.values()]
        by_label.append([i for kind in spread for i in kind][:most])
    turns = [of_label[i : i + 1] for i in range(most) for of_label in by_label]
    return [i for turn in turns for i in turn]


def _by_turns(templates: _Templates, each: int) -> list[Round]:
    folds = folds_of_kinds(templates.kinds, templates.anomalous, _FOLDS)
    if folds is None:
        return []
    rounds = []
    for fold in range(int(folds.max()) + 1):
        shown = templates.shown(np.flatnonzero(folds != fold).tolist())
        tried = _sample(templates, np.flatnonzero(folds == fold).tolist(), math.ceil(each / _FOLDS))
        rounds.append(Round(templates.examples(shown), templates.held_out(tried, _places(shown))))
    return rounds
