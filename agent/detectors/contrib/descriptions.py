"""What a brief says of normal and of anomalous records, clause by clause."""

from __future__ import annotations

import re
from collections.abc import Mapping

# a clause belongs to the label that is named last before its end; "not normal" is anomalous
_MARKERS: Mapping[str, re.Pattern[str]] = {
    "anomalous": re.compile(
        r"\b(?:anomal\w*|abnormal\w*|not normal|unusual|suspicious|spam|fraud\w*|malicious|attacks?)\b", re.IGNORECASE
    ),
    "normal": re.compile(r"(?<!not )\b(?:normal|legitimate|benign|routine|ordinary|ham)\b", re.IGNORECASE),
}
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_CLAUSE = re.compile(r"[,:]?\s+(?:while|whereas|but)\s+|[,:]\s+")


def descriptions(brief: str) -> dict[str, list[str]]:
    """The clauses of a brief by label; a clause without a marker belongs to the label of the one before it.

    A sentence without any marker, such as one that says where records come from, describes neither label.

    Returns
    -------
    dict
        For ``normal`` and ``anomalous``, the texts that describe such records; empty where the brief has none.
    """
    found: dict[str, list[str]] = {"normal": [], "anomalous": []}
    for sentence in _SENTENCE.split(brief):
        label = _label(sentence)
        if label is None:
            continue
        for clause in _CLAUSE.split(sentence):
            label = _label(clause) or label
            text = _without_markers(clause)
            if text:
                found[label].append(text)
    return found


def _label(text: str) -> str | None:
    """The label that the text names first."""
    places = {label: match.start() for label, marker in _MARKERS.items() if (match := marker.search(text))}
    return min(places, key=lambda label: places[label]) if places else None


def _without_markers(clause: str) -> str:
    """The clause, empty where it only names the label ("Also normal")."""
    rest = clause
    for word in ("normal", "anomalous", "anomaly", "anomalies", "abnormal", "also", "are", "is", "the", "a", "an"):
        rest = re.sub(rf"\b{word}\b", " ", rest, flags=re.IGNORECASE)
    return clause.strip(" .;:") if re.search(r"\w", rest) else ""
