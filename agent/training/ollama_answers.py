"""Answers of a model for `ollama run`: what they say, and how often they are right."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from retrieval.types import LABELS

# small models answer with the word of the prompt or a synonym
_SURE = {
    "certainly": ("certainly", "definitely", "surely", "clearly", "certain"),
    "probably": ("probably", "likely", "probable"),
    "possibly": ("possibly", "perhaps", "maybe", "possible"),
}
_MEANS = {word: sure for sure, words in _SURE.items() for word in words}
_FORM = re.compile(rf"\s*[\"'*`]*(?P<label>normal|anomalous)\b\W+(?P<sure>{'|'.join(_MEANS)})\b", re.IGNORECASE)
_QUOTED = re.compile(r"[“\"]([^”\"]+)[”\"]")
# standard errors by which the balanced accuracy must exceed that of always the same label
_STANDARD_ERRORS = 1.64


def parsed(answer: str) -> tuple[str, str] | None:
    r"""Label and certainty from the first line of an exported model's answer; None if it has another form.

    >>> parsed("anomalous, probably\nReason: “kernel panic” tells of …")
    ('anomalous', 'probably')
    """
    found = _FORM.match(answer.lstrip().partition("\n")[0])
    return (found["label"].lower(), _MEANS[found["sure"].lower()]) if found else None


def quotations(answer: str) -> list[str]:
    r"""What an answer quotes.

    >>> quotations("anomalous, probably\nReason: the words “kernel panic”.")
    ['kernel panic']
    """
    return _QUOTED.findall(answer)


def is_in(words: str, record: str) -> bool:
    """Whether the words are in the record, in this order, whatever their case and the white space between them."""
    return " ".join(words.casefold().split()) in " ".join(record.casefold().split())


@dataclass
class Figures:
    """How good answers to held-out cases are.

    Attributes
    ----------
    right, total : dict of str to int
        By label.
    new_right, new_total : dict of str to int
        The same of cases of kinds that are not in the prompt.
    formed : int
        Answers in the form that was asked for.
    quotes, true_quotes : int
        Answers that quote, and those whose quoted words are all in the record.
    """

    right: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)
    new_right: Counter[str] = field(default_factory=Counter)
    new_total: Counter[str] = field(default_factory=Counter)
    formed: int = 0
    quotes: int = 0
    true_quotes: int = 0

    def add(self, record: str, anomalous: bool, new_kind: bool, answer: str) -> None:
        """Count the answer to a record."""
        label, found, quoted = LABELS[anomalous], parsed(answer), quotations(answer)
        right = found is not None and found[0] == label
        self.right[label] += right
        self.total[label] += 1
        self.new_right[label] += right and new_kind
        self.new_total[label] += new_kind
        self.formed += found is not None
        self.quotes += bool(quoted)
        self.true_quotes += bool(quoted) and all(is_in(words, record) for words in quoted)

    def without_reasons(self) -> Figures:
        """The figures of the first lines of the same answers, which quote nothing."""
        return replace(self, quotes=0, true_quotes=0)

    @property
    def count(self) -> int:
        """How many answers there are."""
        return sum(self.total.values())

    @property
    def accuracy(self) -> float:
        """The share of the answers that is right."""
        return sum(self.right.values()) / self.count

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the labels' recall."""
        return balanced(self.right, self.total)

    @property
    def standard_error(self) -> float:
        """Of the balanced accuracy, with two successes and two failures more (Agresti & Coull 1998)."""
        variances = []
        for label, n in self.total.items():
            p = (self.right[label] + 2) / (n + 4)
            variances.append(p * (1 - p) / (n + 4))
        return math.sqrt(sum(variances)) / len(variances)

    def f1(self, label: str) -> float:
        """The harmonic mean of precision and recall; an answer in no known form is of the other label."""
        found = self.right[label]
        wrong = sum(self.total[other] - self.right[other] for other in self.total)
        return 2 * found / (2 * found + wrong) if found else 0.0

    @property
    def better_than_one_label(self) -> bool:
        """Whether the answers are better than always the same label, by more than chance."""
        return self.balanced_accuracy - _STANDARD_ERRORS * self.standard_error > 0.5

    def __str__(self) -> str:
        normal, anomalous = self.total["normal"], self.total["anomalous"]
        text = (
            f"accuracy {self.accuracy:.2f}, balanced accuracy {self.balanced_accuracy:.2f} "
            f"± {self.standard_error:.2f}, F1 normal {self.f1('normal'):.2f}, F1 anomalous {self.f1('anomalous'):.2f} "
            f"on {normal} normal and {anomalous} anomalous held-out cases"
        )
        if all(self.new_total.values()) and self.new_total != self.total:
            new = balanced(self.new_right, self.new_total)
            text += f"; balanced accuracy {new:.2f} on the {sum(self.new_total.values())} of new kinds"
        if self.quotes:
            text += f"; the words quoted are in the record in {self.true_quotes} of {self.quotes}"
        return text


def balanced(right: Mapping[str, int], total: Mapping[str, int]) -> float:
    """The mean of the shares that are right, over the labels."""
    return sum(right[label] / total[label] for label in total) / len(total)
