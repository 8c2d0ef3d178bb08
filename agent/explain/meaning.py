"""Whether a sentence about a verdict contradicts it: in its label, the labels of cases, or which way a value lies.

A small model's sentences are often well-formed and false: the label is the other one, *farther* became *closer*.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.core.records import Verdict

_NORMAL = frozenset({"normal", "ordinary", "benign", "harmless"})
_ANOMALOUS = frozenset({"anomalous", "anomaly", "anomalies", "abnormal", "suspicious", "malicious"})
_UNSURE = frozenset({"unsure", "uncertain", "undecided", "unclear"})
_NEGATIONS = frozenset(
    {"not", "no", "never", "neither", "nor", "without", "none", "cannot", "hardly", "isn't", "wasn't"}
)
# the words before a label that make it no statement about the record
_HYPOTHETICAL = frozenset({"would", "could", "might", "may", "if", "probability", "chance", "risk", "likelihood"})
_LEANING = frozenset({"leans", "leaning", "towards", "toward", "closer", "than", "unlike"})
# a clause with one of these is about cases, not about the record
_OF_CASES = re.compile(r"\b(?:cases?|precedents?|neighbou?rs?|casebook|templates?|labell?ed|c\d+)\b")
_CASE_OR_WORD = re.compile(r"c\d+\b|[a-z][a-z'-]*")
_CLAUSE = re.compile(r"[,;:]\s|\s(?:but|and|while|whereas|because|since|which|that|so)\s|\s[-–—]\s")
_QUOTE = re.compile(r"“([^”]*)”|\"([^\"]*)\"")
_NEAREST = re.compile(r"\b(?:nearest|closest|most similar) (?:case|precedent)\b[^,.;]*?\b(?:is|was|as)\b([^,.;]*)")
_NEARER_TO = re.compile(r"\b(closer|nearer|more similar|farther|further|less similar)\b[^,.;]*?\b(normal|anomalous)\b")
# words of opposite directions
_DIRECTIONS = (
    (
        frozenset({"above", "higher", "greater", "larger", "bigger", "longer", "exceeds", "exceeded", "over", "more"}),
        frozenset({"below", "lower", "smaller", "less", "fewer", "shorter", "under", "beneath"}),
    ),
    (frozenset({"farther", "further"}), frozenset({"closer", "nearer"})),
)
# how many words before a label may negate it, and after or before a case's id may give its label
_NEGATED_WITHIN, _LABELLED_WITHIN = 4, 5


def contradiction(sentence: str, verdict: Verdict, facts: Sequence[str]) -> str | None:
    """What a sentence states otherwise than the verdict and its ``facts`` do; None if nothing.

    >>> verdict = Verdict.model_construct(label="anomalous", precedents=())
    >>> contradiction("The record is normal.", verdict, [])
    'the label'
    >>> contradiction("It is not like any normal case.", verdict, []) is None
    True
    """
    text = sentence.lower().replace("’", "'")
    if _quotes_what_is_not_there(sentence, verdict, facts):
        return "a quotation"
    text = _QUOTE.sub(" ", text)
    if _contradicts_cases(text, verdict):
        return "the label of a case"
    if any(_contradicts_label(clause, verdict) for clause in _CLAUSE.split(text)):
        return "the label"
    if _contradicts_direction(text, verdict, facts):
        return "a direction"
    return None


def _contradicts_label(clause: str, verdict: Verdict) -> bool:
    if _OF_CASES.search(clause):
        return False
    words = _CASE_OR_WORD.findall(clause)
    for place, word in enumerate(words):
        if (stated := _label_of(word)) is None or _HYPOTHETICAL & set(words[:place]):
            continue
        before = words[max(0, place - _NEGATED_WITHIN) : place]
        if _LEANING & set(before):
            continue
        negated = any(other in _NEGATIONS or other.endswith("n't") for other in before)
        if stated == verdict.label and negated:
            return True
        if stated != verdict.label and not negated and not _is_attributive(words, place):
            return True
    return False


def _is_attributive(words: Sequence[str], place: int) -> bool:
    """Whether a label is a property of something else: “above its normal range”, not “is a normal record”."""
    follows = words[place + 1 : place + 2]
    if not follows or follows[0] in {"and", "or", "as", "by", "with", "in", "for", "here", "too"}:
        return False
    is_predicate = any(word in {"is", "was", "be", "as", "are"} for word in words[max(0, place - 3) : place])
    return not (is_predicate and follows[0] in {"record", "line", "event", "message", "entry", "row", "session", "one"})


def _contradicts_cases(text: str, verdict: Verdict) -> bool:
    labels = {case.case_id: case.label for case in verdict.precedents}
    words = _CASE_OR_WORD.findall(text)
    ids = [(place, word) for place, word in enumerate(words) if word in labels]
    for place, word in enumerate(words):
        stated = _label_of(word)
        if stated is None or not ids:
            continue
        near, case_id = min(ids, key=lambda at: abs(at[0] - place))
        between = words[min(near, place) + 1 : max(near, place)]
        if abs(near - place) > _LABELLED_WITHIN or any(other in _NEGATIONS for other in between):
            continue
        if stated != labels[case_id] and not _LEANING & set(between):
            return True
    if not verdict.precedents:
        return False
    nearest = verdict.precedents[0].label
    stated_of_nearest = [_label_of(word) for rest in _NEAREST.findall(text) for word in _CASE_OR_WORD.findall(rest)]
    return any(label is not None and label != nearest for label in stated_of_nearest)


def _contradicts_direction(text: str, verdict: Verdict, facts: Sequence[str]) -> bool:
    nearest = {case.label: case for case in reversed(verdict.precedents)}
    for direction, label in _NEARER_TO.findall(text) if len(nearest) == 2 else ():
        other = nearest["anomalous" if label == "normal" else "normal"]
        is_nearer = nearest[label].similarity > other.similarity
        if is_nearer != (direction in ("closer", "nearer", "more similar")):
            return True
    text = _NEARER_TO.sub(" ", text)
    stated = set(_CASE_OR_WORD.findall(text))
    known = set(_CASE_OR_WORD.findall(" ".join(_QUOTE.sub(" ", fact.lower()) for fact in facts)))
    for pair in _DIRECTIONS:
        for words, opposite in (pair, pair[::-1]):
            if words & stated and opposite & known and not words & known:
                return True
    return False


def _quotes_what_is_not_there(sentence: str, verdict: Verdict, facts: Sequence[str]) -> bool:
    known = _plain("\n".join([verdict.record.text, *(case.text for case in verdict.precedents), *facts]))
    return any(_plain(curly or straight) not in known for curly, straight in _QUOTE.findall(sentence))


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[.,;:!?…]+(?=\s|$)", " ", text.lower()).split())


def _label_of(word: str) -> str | None:
    for label, words in (("normal", _NORMAL), ("anomalous", _ANOMALOUS), ("unsure", _UNSURE)):
        if word in words:
            return label
    return None
